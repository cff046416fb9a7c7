//! The start of an application: `migrate` and `check`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use tokio::time::{Instant, sleep, timeout};
use tower_idempotency::PostgresStore;
use tower_idempotency::store::{Store, StoreErrorKind};

use super::database::Database;
use crate::entry::{MINUTE, claim, key, must_start};

/// A transaction that stays open behind what it has run, as a report or a `VACUUM` does.
async fn open(database: &Database, sql: &str) -> PgConnection {
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let sql = AssertSqlSafe(format!("BEGIN; {sql}"));
    connection.execute(sqlx::raw_sql(sql)).await.unwrap();
    connection
}

/// Nothing that a writer or a `VACUUM` holds makes it wait, and it makes nobody else wait.
#[tokio::test]
async fn migrate_waits_for_nothing_if_there_is_nothing_to_do() {
    let test = "migrate_waits_for_nothing_if_there_is_nothing_to_do";
    let Some(database) = Database::of(test).await else {
        return;
    };
    let store = database.store().await;
    for mode in [
        "ROW EXCLUSIVE",
        "SHARE UPDATE EXCLUSIVE",
        "ACCESS EXCLUSIVE",
    ] {
        let sql = format!("LOCK TABLE idempotency IN {mode} MODE");
        let held = open(&database, &sql).await;
        let migrated = timeout(Duration::from_secs(20), store.migrate()).await;
        migrated.expect(mode).unwrap();
        held.close().await.unwrap();
    }
    database.remove().await;
}

/// The index is missing, and is made behind a transaction that has written. Meanwhile, writers do
/// not queue behind the one who makes it for longer than it waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn migrate_lets_writers_pass_while_it_waits_for_a_transaction() {
    let test = "migrate_lets_writers_pass_while_it_waits_for_a_transaction";
    let Some(database) = Database::of(test).await else {
        return;
    };
    let store = database.store().await;
    database.ask("DROP INDEX idempotency_expires").await;
    let held = open(
        &database,
        "INSERT INTO idempotency VALUES ('a', now(), 'a')",
    )
    .await;
    let migrating = tokio::spawn({
        let store = PostgresStore::connect(database.url()).await.unwrap();
        async move { store.migrate().await }
    });
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            let (mut longest, mut count) = (Duration::ZERO, 0);
            while !stop.load(Ordering::SeqCst) {
                let start = Instant::now();
                must_start(store.begin(&key(count), &claim(), MINUTE).await);
                longest = longest.max(start.elapsed());
                count += 1;
                sleep(Duration::from_millis(2)).await;
            }
            (longest, count)
        }
    });
    let waits = Duration::from_secs(3);
    sleep(waits).await;
    assert!(!migrating.is_finished());
    held.close().await.unwrap();
    migrating.await.unwrap().unwrap();
    stop.store(true, Ordering::SeqCst);
    let (longest, count) = writing.await.unwrap();
    println!(
        "PostgreSQL, migrate behind a transaction of {waits:?}: {count} claims passed, none waited \
         longer than {longest:?}"
    );
    // Who waits without a limit makes them wait for all that time.
    assert!(longest < waits / 2, "a writer waited {longest:?}");
    let indexes = "SELECT count(*) FROM pg_indexes WHERE indexname = 'idempotency_expires'
                   AND schemaname = current_schema()";
    assert_eq!(database.ask(indexes).await[0].get::<i64, _>(0), 1);
    database.remove().await;
}

/// Each fault, and a word of what is said about it.
const FAULTS: [(&str, &str); 9] = [
    ("DROP TABLE idempotency", "migrate"),
    (
        "ALTER TABLE idempotency DROP COLUMN expires CASCADE",
        "columns",
    ),
    (
        "ALTER TABLE idempotency ALTER COLUMN entry TYPE text USING encode(entry, 'hex')",
        "entry bytea",
    ),
    (
        "ALTER TABLE idempotency ALTER COLUMN expires TYPE timestamp",
        "with time zone",
    ),
    (
        "ALTER TABLE idempotency ADD COLUMN note text NOT NULL",
        "columns",
    ),
    (
        "ALTER TABLE idempotency DROP CONSTRAINT idempotency_pkey",
        "primary key",
    ),
    ("REVOKE DELETE ON idempotency FROM checked", "DELETE"),
    ("REVOKE ALL ON idempotency FROM checked", "SELECT"),
    (
        "ALTER ROLE checked SET default_transaction_read_only = on",
        "no writes",
    ),
];

#[tokio::test]
async fn check_names_what_is_wrong_and_leaves_nothing_behind() {
    let test = "check_names_what_is_wrong_and_leaves_nothing_behind";
    let Some(database) = Database::of(test).await else {
        return;
    };
    let role = format!("checked_{}", database.schema());
    let role = &role[..role.len().min(60)];
    database.ask(&format!("CREATE ROLE {role} LOGIN")).await;
    let usage = format!("GRANT USAGE ON SCHEMA {} TO {role}", database.schema());
    database.ask(&usage).await;
    let url = database.url().replace("postgres@", &format!("{role}@"));
    assert_ne!(url, database.url(), "the tests connect as postgres");
    for (fault, word) in [("SELECT", "")].iter().chain(&FAULTS) {
        database.ask("DROP TABLE IF EXISTS idempotency").await;
        let owner = database.store().await;
        let grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency TO";
        database.ask(&format!("{grant} {role}")).await;
        database.ask(&fault.replace("checked", role)).await;
        for simple in [false, true] {
            let store = PostgresStore::connect(&url).await.unwrap();
            let checked = store.simple_protocol(simple).check().await;
            if word.is_empty() {
                checked.unwrap();
                continue;
            }
            let error = checked.expect_err(fault);
            assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{fault}");
            let said = std::error::Error::source(&error).unwrap().to_string();
            assert!(said.contains(word), "{fault}: {said}");
        }
        if word.is_empty() {
            let rows = database.ask("SELECT FROM idempotency").await;
            assert!(rows.is_empty());
        }
        drop(owner);
    }
    database.ask(&format!("DROP OWNED BY {role}")).await;
    database.remove().await;
}

/// Where no table is looked at, the address is.
#[tokio::test]
async fn an_address_that_is_wrong_is_a_fault_of_the_setup() {
    let test = "an_address_that_is_wrong_is_a_fault_of_the_setup";
    let Some(database) = Database::of(test).await else {
        return;
    };
    let no_database = database.url().replacen("/postgres?", "/no_such?", 1);
    let no_role = database.url().replacen("postgres@", "no_such@", 1);
    for url in ["no address", &no_database, &no_role] {
        let error = PostgresStore::connect(url).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{url}");
    }
    database.remove().await;
}
