//! Statements through a pooler of transactions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::task::JoinSet;
use tower_idempotency::store::{Begin, Ownership, Record, RecordKey, Store, StoreErrorKind};
use tower_idempotency::{PostgresStore, StoreError};

use super::pgbouncer::{self, Pooler, Version};
use super::server::Server;
use crate::cluster_support::left_out;
use crate::entry::{MINUTE, claim, key, must_start, record};

const SESSIONS: u32 = 4;
const INSTANCES: u32 = 4;
const KEYS: u32 = 150;

/// What came of the same keys sent by several instances at once.
#[derive(Debug, Default)]
struct Sum {
    starts: Vec<AtomicUsize>,
    failed: AtomicUsize,
    misconfigured: AtomicUsize,
}

fn record_of(n: u32) -> Record {
    record(format!("the record of {n}").as_bytes())
}

/// Claims a key, renews and completes the claim, and asks again; or finds what another has done.
async fn request(store: &PostgresStore, n: u32, sum: &Sum) -> Result<(), StoreError> {
    let (key, claim, record): (RecordKey, _, _) = (key(n), claim(), record_of(n));
    match store.begin(&key, &claim, MINUTE).await? {
        Begin::Started => {}
        Begin::Completed(found) => {
            assert_eq!(found, record);
            return Ok(());
        }
        _ => return Ok(()),
    }
    sum.starts[n as usize].fetch_add(1, Ordering::SeqCst);
    assert_eq!(
        store.renew(&key, claim.owner(), MINUTE).await?,
        Ownership::Held
    );
    let completed = store.complete(&key, claim.owner(), &record, MINUTE);
    assert_eq!(completed.await?, Ownership::Held);
    let again = store.begin(&key, &claim, MINUTE).await?;
    assert!(matches!(again, Begin::Completed(found) if found == record));
    Ok(())
}

/// Sends each key by all instances at once, each with connections of its own.
async fn send(instances: &[PostgresStore]) -> Sum {
    let starts = (0..KEYS).map(|_| AtomicUsize::new(0)).collect();
    let sum = Arc::new(Sum {
        starts,
        ..Sum::default()
    });
    let mut running = JoinSet::new();
    for n in 0..KEYS {
        for store in instances {
            if running.len() >= 16 {
                running.join_next().await.unwrap().unwrap();
            }
            let (store, sum) = (store.clone(), Arc::clone(&sum));
            running.spawn(async move {
                if let Err(error) = request(&store, n, &sum).await {
                    sum.failed.fetch_add(1, Ordering::SeqCst);
                    if error.kind() == StoreErrorKind::Misconfigured {
                        sum.misconfigured.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    }
    running.join_all().await;
    Arc::into_inner(sum).unwrap()
}

/// How the store and the pooler are set up, and whether that is fit.
struct Case {
    what: &'static str,
    max_prepared_statements: u32,
    capacity: usize,
    simple: bool,
    is_fit: bool,
}

fn cases(knows_statements: bool) -> Vec<Case> {
    let case = |what, max_prepared_statements, capacity, simple, is_fit| Case {
        what,
        max_prepared_statements,
        capacity,
        simple,
        is_fit,
    };
    let mut cases = vec![
        case("prepared", 0, 100, false, false),
        case("prepared, without the driver's cache", 0, 0, false, false),
        case("simple", 0, 100, true, true),
    ];
    if knows_statements {
        cases.push(case("prepared", 200, 100, false, true));
        cases.push(case("simple", 200, 100, true, true));
    }
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn through_a_pooler_a_key_starts_once_or_fails_and_an_unfit_one_is_found() {
    let test = "through_a_pooler_a_key_starts_once_or_fails_and_an_unfit_one_is_found";
    let versions = pgbouncer::versions();
    if versions.is_empty() {
        left_out::say(test, "apt-get install pgbouncer, or run tests/run.sh");
        return;
    }
    let Some(server) = Server::start(test) else {
        return;
    };
    let direct = PostgresStore::connect(&server.url()).await.unwrap();
    direct.migrate().await.unwrap();
    direct.check().await.unwrap();
    for version in &versions {
        for case in cases(version.knows_statements) {
            let prepared = case.max_prepared_statements;
            let pooler = Pooler::start(version, &server, prepared, SESSIONS);
            let how: PgConnectOptions = pooler.url().parse().unwrap();
            let how = how.statement_cache_capacity(case.capacity);
            let instances: Vec<_> = (0..INSTANCES)
                .map(|_| {
                    let store = PostgresStore::new(PgPool::connect_lazy_with(how.clone()));
                    store.simple_protocol(case.simple)
                })
                .collect();
            let what = format!("{}, {}, {prepared}", version.name, case.what);
            let checked = instances[0].check().await.map_err(|error| error.kind());
            let right = if case.is_fit {
                Ok(())
            } else {
                Err(StoreErrorKind::Misconfigured)
            };
            assert_eq!(checked, right, "{what}");

            let sum = send(&instances).await;
            let twice = sum.starts.iter().filter(|n| n.load(Ordering::SeqCst) > 1);
            let (twice, failed) = (twice.count(), sum.failed.load(Ordering::SeqCst));
            let misconfigured = sum.misconfigured.load(Ordering::SeqCst);
            println!(
                "{what}: of {KEYS} keys, each sent {INSTANCES} times, {twice} started twice; \
                 {failed} requests failed, {misconfigured} as misconfigured"
            );
            assert_eq!(twice, 0, "{what}");
            if case.is_fit {
                assert_eq!(failed, 0, "{what}");
            }
            // What is there is what was put there.
            for n in 0..KEYS {
                match direct.begin(&key(n), &claim(), MINUTE).await.unwrap() {
                    Begin::Completed(found) => assert_eq!(found, record_of(n), "{what}"),
                    _ => assert!(!case.is_fit, "{what}: the record of {n} is lost"),
                }
            }
            let mut table = PgConnection::connect(&server.url()).await.unwrap();
            let emptied = sqlx::raw_sql("TRUNCATE idempotency").execute(&mut table);
            emptied.await.unwrap();
        }
    }
}

/// A session of the server, held so that the pooler gives it to nobody else.
async fn hold(pooler: &Pooler) -> PgConnection {
    let mut connection = PgConnection::connect(&pooler.url()).await.unwrap();
    let held = sqlx::raw_sql("BEGIN; SELECT").execute(&mut connection);
    held.await.unwrap();
    connection
}

/// The pooler has two sessions. One store prepares a statement in the first, another one its own
/// under the same name in the second, and then that of the first store is to run in the second.
#[tokio::test]
async fn a_statement_that_is_taken_for_another_tables_fails_and_writes_nothing() {
    let test = "a_statement_that_is_taken_for_another_tables_fails";
    let versions = pgbouncer::versions();
    if versions.is_empty() {
        left_out::say(test, "apt-get install pgbouncer, or run tests/run.sh");
        return;
    }
    let Some(server) = Server::start(test) else {
        return;
    };
    let mut table = PgConnection::connect(&server.url()).await.unwrap();
    for version in &versions {
        // Which session the pooler takes is its own affair, and so they do not meet each time.
        let mut have_met = false;
        for _ in 0..20 {
            have_met |= statements_meet(version, &server, &mut table).await;
            if have_met {
                break;
            }
        }
        assert!(have_met, "{}", version.name);
    }
}

/// Lets statements of two tables meet under one name, which must fail; returns whether they did.
/// Either way, each table has what was claimed in it, and nothing else.
async fn statements_meet(version: &Version, server: &Server, table: &mut PgConnection) -> bool {
    let pooler = Pooler::start(version, server, 0, 2);
    let mut stores = Vec::new();
    for name in ["one", "other"] {
        let direct = PostgresStore::connect(&server.url()).await.unwrap();
        direct.table(name).migrate().await.unwrap();
        let store = PostgresStore::connect_lazy(&pooler.url()).unwrap();
        stores.push(store.table(name));
    }
    let first = hold(&pooler).await;
    must_start(stores[0].begin(&key(1), &claim(), MINUTE).await);
    let second = hold(&pooler).await;
    first.close().await.unwrap();
    must_start(stores[1].begin(&key(2), &claim(), MINUTE).await);

    let begun = stores[0].begin(&key(3), &claim(), MINUTE).await;
    let have_met = begun.is_err();
    let mut in_one = vec![key(1)];
    match begun {
        Ok(begun) => {
            must_start(Ok(begun));
            in_one.push(key(3));
        }
        Err(error) => assert_eq!(error.kind(), StoreErrorKind::Misconfigured),
    }
    second.close().await.unwrap();
    for (name, keys) in [("one", in_one), ("other", vec![key(2)])] {
        let sql = format!("SELECT key FROM {name} ORDER BY key");
        let found: Vec<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(&mut *table)
            .await
            .unwrap();
        let keys: Vec<_> = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
        assert_eq!(found, keys, "{}, {name}", version.name);
    }
    let sql = "DROP TABLE one, other";
    sqlx::raw_sql(sql).execute(table).await.unwrap();
    have_met
}
