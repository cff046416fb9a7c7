//! Files that fail under load.

use std::sync::Mutex;
use std::time::Duration;

use sqlx::{Connection, Executor, SqliteConnection};
use tokio::runtime::Handle;
use tower_idempotency::SqliteStore;
use tower_idempotency::store::{DynStore, StoreErrorKind};

use super::disk::Thin;
use super::file::File;
use crate::cluster_support::fault::Fault;
use crate::disk::left_out;

/// 50 requests a second, which any disk takes.
pub(super) const EVERY: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_that_another_has_locked_hurts_no_request_and_loses_nothing() {
    let file = File::new();
    let store = DynStore::new(file.store().await);
    let other = Mutex::new(SqliteConnection::connect(&file.url()).await.unwrap());
    let run = |sql: &'static str| {
        let mut other = other.lock().unwrap();
        Handle::current().block_on(other.execute(sql)).unwrap();
    };
    let fault = Fault {
        what: "locked by another's transaction",
        kinds: &[StoreErrorKind::Timeout],
        reads: true,
        every: EVERY,
    };
    let lock = || {
        let mut other = other.lock().unwrap();
        Handle::current().block_on(async {
            // Under load, the file is never free for long.
            while other.execute("BEGIN IMMEDIATE").await.is_err() {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        });
    };
    fault
        .hurts_no_request(&store, lock, || run("ROLLBACK"))
        .await;
}

/// The disk takes what is written into the system's memory, and fails when a record waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_disk_that_fails_under_a_live_store_hurts_no_request_and_loses_nothing() {
    let Some(disk) = Thin::new() else {
        return left_out("a disk that fails", "this process may not mount one");
    };
    let store = SqliteStore::open(disk.path()).await.unwrap();
    store.migrate().await.unwrap();
    // Under a reader the log grows, so each record needs another block of the disk.
    let url = format!("sqlite:{}", disk.path().display());
    let mut reader = SqliteConnection::connect(&url).await.unwrap();
    reader.execute("BEGIN").await.unwrap();
    reader
        .execute("SELECT count(*) FROM idempotency")
        .await
        .unwrap();
    let fault = Fault {
        what: "a disk that fails (EIO)",
        kinds: &[StoreErrorKind::Unavailable],
        reads: true,
        every: EVERY,
    };
    let store = DynStore::new(store);
    fault
        .hurts_no_request(&store, || disk.fail(), || disk.work())
        .await;
}
