//! A file that has become read-only.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tower_idempotency::SqliteStore;
use tower_idempotency::store::{Begin, Claim, Store, StoreErrorKind};

use super::disk::Disk;
use super::file::File;
use super::ledger::must_complete;
use crate::disk::left_out;
use crate::entry::{MINUTE, claim, key, must_start, record};

/// Keeps a record under key 1 and a claim under key 2.
async fn filled(path: &Path) -> (SqliteStore, Claim) {
    let store = SqliteStore::open(path).await.unwrap();
    store.migrate().await.unwrap();
    let claim = claim();
    for n in [1, 2] {
        must_start(store.begin(&key(n), &claim, MINUTE).await);
    }
    must_complete(&store, 1, &claim).await;
    (store, claim)
}

/// What is kept is replayed, what runs is refused, and all that writes gets the error.
async fn must_only_read(store: &SqliteStore, owner: &Claim) {
    let begun = store.begin(&key(1), &claim(), MINUTE).await;
    assert!(matches!(begun, Ok(Begin::Completed(_))), "{begun:?}");
    let begun = store.begin(&key(2), &claim(), MINUTE).await;
    assert!(matches!(begun, Ok(Begin::InProgress(_))), "{begun:?}");
    let (key, owner) = (key(2), owner.owner());
    let begun = store.begin(&self::key(3), &claim(), MINUTE).await;
    for refused in [
        begun.map(drop),
        store
            .complete(&key, owner, &record(b"{}"), MINUTE)
            .await
            .map(drop),
        store.renew(&key, owner, MINUTE).await.map(drop),
        store.release(&key, owner).await.map(drop),
        store.clean().await.map(drop),
        store.check().await,
    ] {
        let kind = refused.map_err(|error| error.kind());
        assert_eq!(kind, Err(StoreErrorKind::Misconfigured));
    }
}

#[tokio::test]
async fn a_file_that_may_only_be_read_replays_and_refuses_and_what_is_new_gets_the_error() {
    let file = File::new();
    let (writable, claim) = filled(&file.path()).await;
    let options = SqliteConnectOptions::new()
        .filename(file.path())
        .busy_timeout(std::time::Duration::ZERO)
        .read_only(true);
    let pool = SqlitePoolOptions::new().connect_with(options).await;
    must_only_read(&SqliteStore::new(pool.unwrap()), &claim).await;
    // It was not written, and can be written again.
    must_complete(&writable, 2, &claim).await;
}

#[tokio::test]
async fn a_disk_that_is_mounted_read_only_replays_and_refuses_and_what_is_new_gets_the_error() {
    let Some(disk) = Disk::of(16) else {
        return left_out("a read-only disk", "this process may not mount one");
    };
    let (writable, claim) = filled(&disk.path()).await;
    let read_only = disk.read_only();
    must_only_read(&SqliteStore::open(read_only.path()).await.unwrap(), &claim).await;
    must_complete(&writable, 2, &claim).await;
}

/// SQLite reads no file with a log that it can't make.
#[tokio::test]
async fn a_file_that_nothing_has_open_on_a_read_only_disk_is_a_wrong_setting() {
    let Some(disk) = Disk::of(16) else {
        return left_out("a read-only disk", "this process may not mount one");
    };
    drop(filled(&disk.path()).await);
    disk.must_close().await;
    let opened = SqliteStore::open(disk.read_only().path()).await;
    let kind = opened.map(drop).map_err(|error| error.kind());
    assert_eq!(kind, Err(StoreErrorKind::Misconfigured));
}
