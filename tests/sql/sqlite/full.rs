//! A disk that is full.

use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tower_idempotency::SqliteStore;
use tower_idempotency::store::StoreErrorKind;

use super::disk::Disk;
use super::file::File;
use super::ledger::{HOUR, Ledger};
use crate::disk::left_out;

/// Who takes the room of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filler {
    TheStore,
    AnotherProgram,
}

/// Fills a disk again and again after so many keys, and opens the file anew in between.
async fn fill_and_clean(filler: Filler, keys: u32) {
    let Some(disk) = Disk::of(16) else {
        return left_out("a full disk", "this process may not mount one");
    };
    let store = SqliteStore::open(disk.path()).await.unwrap();
    store.migrate().await.unwrap();
    store.clean().await.unwrap();
    let whole = disk.size_of("-reserve");
    let mut full = Ledger::new(store, disk.path());
    assert!(whole > 0);
    assert_eq!(full.take(1000, Duration::from_nanos(1)).await, Ok(()));
    for round in 0..4 {
        if filler == Filler::AnotherProgram {
            let _ = full.take(keys, HOUR).await;
            disk.fill();
        }
        let refused = full.take(u32::MAX / 2, HOUR).await;
        assert_eq!(refused, Err(StoreErrorKind::Full));
        full.must_refuse_what_is_new().await;
        full.must_serve_what_it_has().await;
        let claims = full.claims.len();
        println!(
            "{filler:?}, full after {} records and {claims} claims: {}",
            full.records.len(),
            disk.state()
        );
        let waiting = full.end_claims().await;
        println!(
            "  {waiting} of {claims} claims had no room to end: {}",
            disk.state()
        );
        // Later, the other program has taken what was given back.
        assert!(waiting == 0 || round > 0);
        full.clean().await;
        println!("  cleaned: {}", disk.state());
        assert_eq!(full.take(10, HOUR).await, Ok(()));
        full.settle_claims().await;
        full.must_serve_what_it_has().await;
        full.end_half().await;
        if round % 2 == 1 {
            drop(full.store);
            full.store = SqliteStore::open(disk.path()).await.unwrap();
            if filler == Filler::AnotherProgram {
                // Takes the room of the log, which has ended with its last connection.
                disk.fill();
            }
        }
    }
    if filler == Filler::AnotherProgram {
        disk.drain();
        full.clean().await;
        assert_eq!(disk.size_of("-reserve"), whole);
        assert_eq!(full.take(1000, HOUR).await, Ok(()));
    }
}

#[tokio::test]
async fn a_disk_that_the_store_has_filled_takes_claims_again_after_cleaning_and_loses_nothing() {
    fill_and_clean(Filler::TheStore, 0).await;
}

#[tokio::test]
async fn a_disk_that_another_has_filled_takes_claims_again_after_cleaning_and_loses_nothing() {
    for keys in [500, 1200] {
        fill_and_clean(Filler::AnotherProgram, keys).await;
    }
}

/// A pool of the application has a limit of its own, and no reserve.
#[tokio::test]
async fn a_file_at_its_limit_of_pages_takes_claims_again_after_cleaning_and_loses_nothing() {
    let file = File::new();
    let options = SqliteConnectOptions::new()
        .filename(file.path())
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off)
        .pragma("max_page_count", "300");
    let pool = SqlitePoolOptions::new().connect_with(options).await;
    let store = SqliteStore::new(pool.unwrap());
    store.migrate().await.unwrap();
    let mut full = Ledger::new(store, file.path());
    for _ in 0..3 {
        let refused = full.take(u32::MAX / 2, HOUR).await;
        assert_eq!(refused, Err(StoreErrorKind::Full));
        full.must_serve_what_it_has().await;
        full.end_half().await;
        full.clean().await;
        full.settle_claims().await;
        full.must_serve_what_it_has().await;
    }
    assert!(
        !file
            .path()
            .with_file_name("idempotency.db-reserve")
            .exists()
    );
}
