//! What an operator or another program does to a file under a store.

use std::error::Error;
use std::fs;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{Connection, Executor, SqliteConnection};
use tokio::time::Instant;
use tower_idempotency::store::{Begin, Ownership, Store, StoreErrorKind};
use tower_idempotency::{IdempotencyLayer, Outcome, SqliteStore};

use super::disk::Disk;
use super::file::File;
use super::ledger::must_complete;
use crate::cluster_support::api;
use crate::disk::left_out;
use crate::entry::{MINUTE, claim, key, must_start, record};

const STORE_TIMEOUT: Duration = Duration::from_millis(200);

/// Sends a request, which must be answered, to an API whose handler takes no time, and returns what
/// came of it.
async fn outcome(store: &SqliteStore, key: &str) -> Outcome {
    let layer = IdempotencyLayer::new(store.clone()).store_timeout(STORE_TIMEOUT);
    let api = api::router(layer, |_| async { "{}" });
    let answer = api::call(&api, key).await;
    assert_eq!(answer.status, 200);
    answer.outcome
}

const TIMED_OUT: Outcome = Outcome::StoreFailed(StoreErrorKind::Timeout);

/// Another process's transaction holds up what writes, and nothing that is read.
#[tokio::test]
async fn a_file_that_is_locked_replays_what_is_kept_and_runs_what_is_new_after_the_timeout() {
    let file = File::new();
    let store = file.store().await;
    assert_eq!(outcome(&store, "kept").await, Outcome::Kept);
    let mut other = SqliteConnection::connect(&file.url()).await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    for n in 0..3 {
        let start = Instant::now();
        assert_eq!(outcome(&store, "kept").await, Outcome::Replayed);
        assert_eq!(outcome(&store, &format!("new {n}")).await, TIMED_OUT);
        println!("locked: a replay and a new key took {:?}", start.elapsed());
    }
    other.execute("ROLLBACK").await.unwrap();
    // At once, since a step that waits for the lock tries each millisecond, and none is left over.
    while outcome(&store, &api::run_id()).await != Outcome::Kept {}
    assert_eq!(outcome(&store, "kept").await, Outcome::Replayed);
}

/// The application's pool has a connection whose transaction nobody ends: what the store writes on
/// the others waits, as behind any lock.
#[tokio::test]
async fn a_connection_that_was_left_inside_a_transaction_holds_up_what_is_new() {
    let file = File::new();
    let _own = file.store().await;
    let options = SqliteConnectOptions::new()
        .filename(file.path())
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::ZERO);
    let pool = SqlitePoolOptions::new()
        .max_connections(2)
        .connect_with(options)
        .await
        .unwrap();
    let store = SqliteStore::new(pool.clone());
    assert_eq!(outcome(&store, "kept").await, Outcome::Kept);
    let mut left = pool.acquire().await.unwrap();
    left.execute("BEGIN IMMEDIATE").await.unwrap();
    assert_eq!(outcome(&store, "kept").await, Outcome::Replayed);
    assert_eq!(outcome(&store, "new").await, TIMED_OUT);
    left.execute("ROLLBACK").await.unwrap();
    drop(left);
    while outcome(&store, &api::run_id()).await != Outcome::Kept {}
}

/// The store can't see that it is inside a transaction of somebody else, who may take all of it back.
#[tokio::test]
async fn what_is_written_by_a_connection_left_inside_a_transaction_ends_with_it() {
    let file = File::new();
    let _own = file.store().await;
    let options = SqliteConnectOptions::new()
        .filename(file.path())
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePoolOptions::new().max_connections(1);
    let pool = pool.connect_with(options).await.unwrap();
    let store = SqliteStore::new(pool.clone());
    sqlx::query("BEGIN").execute(&pool).await.unwrap();
    must_start(store.begin(&key(1), &claim(), MINUTE).await);
    assert!(file.ask("SELECT * FROM idempotency").await.is_empty());
    sqlx::query("ROLLBACK").execute(&pool).await.unwrap();
    must_start(store.begin(&key(1), &claim(), MINUTE).await);
    assert_eq!(file.ask("SELECT * FROM idempotency").await.len(), 1);
}

/// What is open stays open: this process goes on with the file that was there.
#[tokio::test]
async fn a_file_that_is_removed_or_replaced_is_reported_by_cleaning_and_by_the_check() {
    for (what, replaced) in [("removed", false), ("replaced", true)] {
        let file = File::new();
        let store = file.store().await;
        let claim = claim();
        must_start(store.begin(&key(1), &claim, MINUTE).await);
        store.clean().await.unwrap();
        fs::rename(file.path(), file.path().with_extension("old")).unwrap();
        if replaced {
            fs::write(file.path(), "").unwrap();
        }
        for reported in [store.clean().await.map(drop), store.check().await] {
            let error = reported.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
            let why = error.source().unwrap().to_string();
            assert!(why.contains(what) && why.contains("restart"), "{why}");
            println!("{why}");
        }
        // No key runs twice in this process, not even by a connection that was not used before.
        must_complete(&store, 1, &claim).await;
        let readers = (0..16).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.begin(&key(1), &self::claim(), MINUTE).await })
        });
        for reader in readers.collect::<Vec<_>>() {
            let begun = reader.await.unwrap();
            assert!(matches!(begun, Ok(Begin::Completed(_))), "{begun:?}");
        }
    }
}

/// A reader that does not end keeps the log from starting over, and from nothing else.
#[tokio::test]
async fn the_log_grows_under_a_long_reader_and_is_cut_after_it() {
    let file = File::new();
    let store = file.store().await;
    let log = || fs::metadata(format!("{}-wal", file.path().display())).map_or(0, |log| log.len());
    let write = async |from: u32| {
        for n in from..from + 200 {
            let (key, claim, record) = (key(n), claim(), record(&[7; 32 * 1024]));
            must_start(store.begin(&key, &claim, MINUTE).await);
            let held = store.complete(&key, claim.owner(), &record, MINUTE).await;
            assert_eq!(held.unwrap(), Ownership::Held);
        }
    };
    write(0).await;
    let usual = log();
    let mut reader = SqliteConnection::connect(&file.url()).await.unwrap();
    reader.execute("BEGIN").await.unwrap();
    reader
        .execute("SELECT count(*) FROM idempotency")
        .await
        .unwrap();
    write(1000).await;
    let grown = log();
    reader.execute("ROLLBACK").await.unwrap();
    write(2000).await;
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let after = log();
    println!(
        "the log: {}; under a reader {}; after it {}",
        mib(usual),
        mib(grown),
        mib(after)
    );
    assert!(grown > 6 << 20, "{grown}");
    assert!(usual <= 4 << 20 && after <= 4 << 20, "{usual}, {after}");
}

/// A restart must not end what a full disk still gives.
#[tokio::test]
async fn a_file_on_a_full_disk_can_be_opened_and_replays() {
    let Some(disk) = Disk::of(16) else {
        return left_out("a full disk", "this process may not mount one");
    };
    let store = SqliteStore::open(disk.path()).await.unwrap();
    store.migrate().await.unwrap();
    store.clean().await.unwrap();
    let claim = claim();
    must_start(store.begin(&key(1), &claim, MINUTE).await);
    must_complete(&store, 1, &claim).await;
    drop(store);
    disk.must_close().await;
    disk.fill();
    let store = SqliteStore::open(disk.path()).await.unwrap();
    let begun = store.begin(&key(1), &self::claim(), MINUTE).await;
    assert!(matches!(begun, Ok(Begin::Completed(_))), "{begun:?}");
    let begun = store.begin(&key(2), &self::claim(), MINUTE).await;
    assert_eq!(begun.unwrap_err().kind(), StoreErrorKind::Full);
    println!("opened on a full disk: {}", disk.state());
}
