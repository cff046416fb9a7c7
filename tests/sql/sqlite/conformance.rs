//! The conformance kit.

use std::time::Duration;

use sqlx::Row;
use tower_idempotency::SqliteStore;
use tower_idempotency::store::conformance::{
    Clock, a_full_store_keeps_what_it_has, the_room_of_what_ended_is_given_back,
};

use super::disk::Disk;
use super::file::File;
use crate::cluster_support::conformance;
use crate::disk::left_out;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_store_keeps_what_a_store_promises() {
    let file = File::new();
    let store = file.store().await;
    conformance::passes(async || store.clone()).await;

    let cleaner = tokio::spawn(store.cleaner(Duration::from_millis(100)));
    let room = async |_: &_| {
        let rows = file.ask("SELECT count(*) FROM idempotency").await;
        rows[0].get::<i64, _>(0) as usize
    };
    file.ask("DELETE FROM idempotency").await;
    let clock = Clock::real();
    the_room_of_what_ended_is_given_back(store, clock, room).await;
    cleaner.abort();
}

#[tokio::test]
async fn a_store_on_a_full_disk_keeps_what_it_has() {
    let Some(disk) = Disk::of(14) else {
        return left_out("a full disk", "this process may not mount one");
    };
    let store = SqliteStore::open(disk.path()).await.unwrap();
    store.migrate().await.unwrap();
    store.clean().await.unwrap();
    a_full_store_keeps_what_it_has(store, Clock::real()).await;
}

#[cfg(feature = "zstd")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_of_compressed_records_keeps_it_too() {
    let file = File::new();
    let store = file.store().await.compress_over(64);
    conformance::passes(async || store.clone()).await;
}
