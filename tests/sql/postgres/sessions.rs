//! Many sessions at one key.

use std::sync::Arc;

use sqlx::Row;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tower_idempotency::PostgresStore;
use tower_idempotency::store::{Begin, Owner, Ownership, Store};

use super::database::Database;
use crate::entry::{MINUTE, claim, key, record};

const SESSIONS: usize = 16;

/// Connects with many sessions whose transactions are of this isolation.
async fn sessions_of(database: &Database, isolation: &str) -> PostgresStore {
    let options: PgConnectOptions = database.url().parse().unwrap();
    let pool = PgPoolOptions::new()
        .min_connections(SESSIONS as u32)
        .max_connections(SESSIONS as u32)
        .connect_with(options.options([("default_transaction_isolation", isolation)]))
        .await
        .unwrap();
    let set = sqlx::query("SHOW transaction_isolation").fetch_one(&pool);
    assert_eq!(set.await.unwrap().get::<String, _>(0), isolation);
    let store = PostgresStore::sharing(pool);
    store.migrate().await.unwrap();
    store
}

async fn end_all_terms(database: &Database) {
    database
        .ask("UPDATE idempotency SET expires = now() - interval '1 second'")
        .await;
}

/// Sends each key by all sessions at once, round after round: once fresh, once with a lease that
/// has ended under it.
async fn race(database: &Database, isolation: &str) {
    let store = sessions_of(database, isolation).await;
    for round in 0..60 {
        let key = key(round);
        for fresh in [true, false] {
            if !fresh {
                end_all_terms(database).await;
            }
            let barrier = Arc::new(Barrier::new(SESSIONS));
            let mut sessions = JoinSet::new();
            for _ in 0..SESSIONS {
                let (store, barrier) = (store.clone(), Arc::clone(&barrier));
                sessions.spawn(async move {
                    let claim = claim();
                    barrier.wait().await;
                    let begun = store.begin(&key, &claim, MINUTE).await.unwrap();
                    (claim.owner(), begun)
                });
            }
            let begun = sessions.join_all().await;
            let started = |(_, begun): &&(Owner, Begin)| matches!(begun, Begin::Started);
            let owners: Vec<_> = begun.iter().filter(started).map(|(o, _)| *o).collect();
            assert_eq!(owners.len(), 1, "round {round}, fresh {fresh}: {begun:?}");
            for (owner, begun) in &begun {
                assert!(matches!(begun, Begin::Started | Begin::InProgress(_)));
                let held = store.renew(&key, *owner, MINUTE).await.unwrap();
                assert_eq!(held == Ownership::Held, *owner == owners[0]);
            }
            if !fresh {
                let held = store
                    .complete(&key, owners[0], &record(b"{}"), MINUTE)
                    .await;
                assert_eq!(held.unwrap(), Ownership::Held);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exactly_one_of_16_sessions_starts_at_any_isolation() {
    for isolation in ["read committed", "repeatable read", "serializable"] {
        let test = "exactly_one_of_16_sessions_starts_at_any_isolation";
        let Some(database) = Database::of(test).await else {
            return;
        };
        race(&database, isolation).await;
        database.remove().await;
    }
}

/// Sends each key by all sessions at once, round after round, half of which claim it and half
/// complete it without a claim: once fresh, once with a lease that has ended, once with a ttl that
/// has ended.
async fn race_with_late_completions(database: &Database, isolation: &str) {
    let store = sessions_of(database, isolation).await;
    for round in 0..40 {
        let key = key(round);
        for under in ["nothing", "a lease", "a record"] {
            if under != "nothing" {
                end_all_terms(database).await;
                let claim = claim();
                let begun = store.begin(&key, &claim, MINUTE).await;
                assert!(matches!(begun, Ok(Begin::Started)), "{begun:?}");
                if under == "a record" {
                    let record = record(b"old");
                    let held = store.complete(&key, claim.owner(), &record, MINUTE);
                    assert_eq!(held.await.unwrap(), Ownership::Held);
                }
                end_all_terms(database).await;
            }
            let barrier = Arc::new(Barrier::new(SESSIONS));
            let mut sessions = JoinSet::new();
            for session in 0..SESSIONS {
                let (store, barrier) = (store.clone(), Arc::clone(&barrier));
                sessions.spawn(async move {
                    let claim = claim();
                    let record = record(session.to_string().as_bytes());
                    barrier.wait().await;
                    if session % 2 == 0 {
                        let begun = store.begin(&key, &claim, MINUTE).await.unwrap();
                        return matches!(begun, Begin::Started).then_some(None);
                    }
                    let held = store.complete(&key, claim.owner(), &record, MINUTE);
                    let is_held = held.await.unwrap() == Ownership::Held;
                    is_held.then_some(Some(record))
                });
            }
            let had: Vec<_> = sessions.join_all().await.into_iter().flatten().collect();
            let found = store.begin(&key, &claim(), MINUTE).await.unwrap();
            let is_right = match (&had[..], &found) {
                ([None], Begin::InProgress(_)) => true,
                ([Some(record)], Begin::Completed(found)) => found == record,
                _ => false,
            };
            assert!(is_right, "round {round}, {under}: {had:?}, {found:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_late_completion_and_a_claim_exclude_each_other_at_any_isolation() {
    for isolation in ["read committed", "repeatable read", "serializable"] {
        let test = "a_late_completion_and_a_claim_exclude_each_other_at_any_isolation";
        let Some(database) = Database::of(test).await else {
            return;
        };
        race_with_late_completions(&database, isolation).await;
        database.remove().await;
    }
}

/// A replay that wrote would wait for the disk, and leave work for a vacuum.
#[tokio::test]
async fn a_replay_and_a_refusal_write_nothing() {
    let Some(database) = Database::of("a_replay_and_a_refusal_write_nothing").await else {
        return;
    };
    let store = database.store().await;
    let (done, running, claim) = (key(1), key(2), claim());
    for key in [&done, &running] {
        assert!(matches!(
            store.begin(key, &claim, MINUTE).await,
            Ok(Begin::Started)
        ));
    }
    let record = record(b"{}");
    let held = store.complete(&done, claim.owner(), &record, MINUTE);
    assert_eq!(held.await.unwrap(), Ownership::Held);
    let rows = async || {
        let rows = database
            .ask("SELECT key, xmin::text, xmax::text, ctid::text FROM idempotency ORDER BY key")
            .await;
        let versions = rows.iter().map(|row| {
            let column = |n: usize| row.get::<String, _>(n);
            (column(1), column(2), column(3))
        });
        versions.collect::<Vec<_>>()
    };
    let before = rows().await;
    for _ in 0..3 {
        let begun = store.begin(&done, &self::claim(), MINUTE).await.unwrap();
        assert!(matches!(begun, Begin::Completed(_)));
        let begun = store.begin(&running, &self::claim(), MINUTE).await.unwrap();
        assert!(matches!(begun, Begin::InProgress(_)));
    }
    assert_eq!(rows().await, before);
    database.remove().await;
}
