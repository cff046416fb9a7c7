//! A pool whose connections the application leaves in a state of its own.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::time::timeout;
use tower_idempotency::PostgresStore;
use tower_idempotency::store::{Begin, Ownership, Store, StoreErrorKind};

use super::database::Database;
use crate::entry::{MINUTE, claim, key, must_start, record};

/// Runs SQL on the pool's only connection, which then goes back, in whatever state it is.
async fn leave(pool: &PgPool, sql: &'static str) {
    let mut connection = pool.acquire().await.unwrap();
    let ran = sqlx::raw_sql(sql).execute(&mut *connection).await;
    assert_eq!(ran.is_err(), sql.contains('/'), "{sql}: {ran:?}");
    drop(connection);
    while pool.num_idle() == 0 {
        tokio::task::yield_now().await;
    }
}

async fn must_be_found(store: &PostgresStore) {
    let error = store.check().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    let said = std::error::Error::source(&error).unwrap().to_string();
    assert!(said.contains("inside a transaction"), "{said}");
}

#[tokio::test]
async fn steps_in_a_transaction_that_was_left_open_end_with_it_and_check_finds_it() {
    let test = "steps_in_a_transaction_that_was_left_open_end_with_it_and_check_finds_it";
    let Some(database) = Database::of(test).await else {
        return;
    };
    // Another instance of the application, with connections of its own.
    let other = database.store().await;
    let pool = PgPoolOptions::new().max_connections(1);
    let pool = pool.connect(database.url()).await.unwrap();
    let sharing = PostgresStore::sharing(pool.clone());
    sharing.check().await.unwrap();
    let kept = record(b"{}");
    for (n, end) in [(1, "ROLLBACK"), (2, "COMMIT")] {
        let (key, one, two) = (key(n), claim(), claim());
        leave(&pool, "BEGIN").await;
        must_be_found(&sharing).await;
        must_start(sharing.begin(&key, &one, MINUTE).await);
        let held = sharing.complete(&key, one.owner(), &kept, MINUTE).await;
        assert_eq!(held.unwrap(), Ownership::Held);
        // Nobody knows yet whether the key is claimed.
        let begun = timeout(WAIT, other.begin(&key, &two, MINUTE)).await;
        assert!(begun.is_err(), "{begun:?}");
        leave(&pool, end).await;
        let begun = other.begin(&key, &two, MINUTE).await.unwrap();
        let late = sharing.complete(&key, one.owner(), &kept, MINUTE).await;
        if end == "COMMIT" {
            assert!(matches!(begun, Begin::Completed(found) if found == kept));
        } else {
            // What was kept is gone, and the retry runs.
            must_start(Ok(begun));
            assert_eq!(late.unwrap(), Ownership::Lost);
        }
        sharing.check().await.unwrap();
    }
    database.remove().await;
}

#[tokio::test]
async fn a_connection_whose_transaction_has_failed_costs_no_request_its_protection() {
    let test = "a_connection_whose_transaction_has_failed_costs_no_request";
    let Some(database) = Database::of(test).await else {
        return;
    };
    let other = database.store().await;
    let pool = PgPoolOptions::new().max_connections(1);
    let pool = pool.connect(database.url()).await.unwrap();
    let sharing = PostgresStore::sharing(pool.clone());
    let (key, claim) = (key(1), claim());
    let spoil = async || leave(&pool, "BEGIN; SELECT 1 / 0").await;
    spoil().await;
    must_be_found(&sharing).await;
    must_start(sharing.begin(&key, &claim, MINUTE).await);
    spoil().await;
    let held = sharing.renew(&key, claim.owner(), MINUTE).await;
    assert_eq!(held.unwrap(), Ownership::Held);
    spoil().await;
    let kept = record(b"{}");
    let held = sharing.complete(&key, claim.owner(), &kept, MINUTE).await;
    assert_eq!(held.unwrap(), Ownership::Held);
    let found = other.begin(&key, &self::claim(), MINUTE).await.unwrap();
    assert!(matches!(found, Begin::Completed(found) if found == kept));
    database.remove().await;
}

/// What a request waits for the store.
const WAIT: Duration = Duration::from_millis(300);
