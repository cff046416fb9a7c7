//! The conformance kit.

use std::time::Duration;

use sqlx::Row;
use tower_idempotency::store::conformance::{Clock, the_room_of_what_ended_is_given_back};

use super::database::Database;
use crate::cluster_support::conformance;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_store_keeps_what_a_store_promises() {
    let Some(database) = Database::of("the_store_keeps_what_a_store_promises").await else {
        return;
    };
    let store = database.store().await;
    conformance::passes(async || store.clone()).await;

    let cleaner = tokio::spawn(store.cleaner(Duration::from_millis(100)));
    let room = async |_: &_| {
        let rows = database.ask("SELECT count(*) FROM idempotency").await;
        rows[0].get::<i64, _>(0) as usize
    };
    database.ask("TRUNCATE idempotency").await;
    let clock = Clock::real();
    the_room_of_what_ended_is_given_back(store, clock, room).await;
    cleaner.abort();
    database.remove().await;
}

#[cfg(feature = "zstd")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_of_compressed_records_keeps_it_too() {
    let Some(database) = Database::of("a_store_of_compressed_records_keeps_it_too").await else {
        return;
    };
    let store = database.store().await.compress_over(64);
    conformance::passes(async || store.clone()).await;
    database.remove().await;
}
