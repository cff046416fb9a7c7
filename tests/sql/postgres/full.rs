//! A disk that is full.

use std::fs;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tower_idempotency::PostgresStore;
use tower_idempotency::store::{Begin, Claim, Ownership, Record, RecordKey, Store, StoreErrorKind};

use super::server::{self, Server};
use crate::disk::{Disk, left_out};
use crate::entry::{MINUTE, claim, key, must_start, record};

/// Claims that were made before the disk became full, and those of them that are completed.
struct Before {
    by: Claim,
    kept: Record,
}

const DONE: std::ops::Range<u32> = 0..20;
const RUNNING: std::ops::Range<u32> = 20..40;

impl Before {
    async fn of(store: &PostgresStore) -> Self {
        // Nothing that the server could compress.
        let body = (0..6000_u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8);
        let body: Vec<_> = body.collect();
        let (by, kept) = (claim(), record(&body));
        for n in DONE.start..RUNNING.end {
            must_start(store.begin(&key(n), &by, 10 * MINUTE).await);
        }
        for key in DONE.map(key) {
            let held = store.complete(&key, by.owner(), &kept, 10 * MINUTE).await;
            assert_eq!(held.unwrap(), Ownership::Held);
        }
        Self { by, kept }
    }

    /// What is kept is replayed, and what runs is refused.
    async fn must_be_found(&self, store: &PostgresStore) {
        for key in DONE.map(key) {
            let found = store.begin(&key, &claim(), MINUTE).await.unwrap();
            assert!(matches!(found, Begin::Completed(found) if found == self.kept));
        }
        for key in RUNNING.map(key) {
            let found = store.begin(&key, &claim(), MINUTE).await.unwrap();
            assert!(matches!(found, Begin::InProgress(_)));
        }
    }

    /// Completes these claims, and returns those of them that had no room.
    async fn complete(
        &self,
        store: &PostgresStore,
        running: impl IntoIterator<Item = u32>,
    ) -> Vec<u32> {
        let mut without = Vec::new();
        for n in running {
            let key = key(n);
            let held = store.complete(&key, self.by.owner(), &self.kept, MINUTE);
            match held.await {
                Ok(held) => assert_eq!(held, Ownership::Held),
                Err(error) => {
                    assert_eq!(error.kind(), StoreErrorKind::Full, "{error:?}");
                    without.push(n);
                }
            }
        }
        without
    }
}

/// Claims a new key, as long as a request waits, and returns why that fails if it does.
async fn fails(store: &PostgresStore, n: u32) -> Option<StoreErrorKind> {
    let (key, claim) = (key(1000 + n), claim());
    match timeout(WAIT, store.begin(&key, &claim, MINUTE)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.kind()),
        Err(_) => Some(StoreErrorKind::Timeout),
    }
}

/// Claims new keys until that fails.
async fn until_it_fails(store: &PostgresStore) -> StoreErrorKind {
    for n in 0..100_000 {
        if let Some(kind) = fails(store, n).await {
            return kind;
        }
    }
    panic!("the disk is not full");
}

/// Claims a new key until that works.
async fn until_it_works(store: &PostgresStore, key: &RecordKey) {
    let (start, claim) = (Instant::now(), claim());
    while store.begin(key, &claim, MINUTE).await.is_err() {
        assert!(start.elapsed() < MINUTE, "not used again");
        sleep(Duration::from_millis(5)).await;
    }
}

/// What a request waits for the store.
const WAIT: Duration = Duration::from_millis(300);

fn small(test: &str) -> Option<Disk> {
    let disk = Disk::of(24);
    if disk.is_none() {
        left_out(test, "this process may not mount a small disk");
    }
    disk
}

/// The disk of the table, while the server itself has room.
#[tokio::test]
async fn a_full_disk_replays_what_is_kept_and_takes_claims_again_with_the_first_room() {
    let test = "a_full_disk_replays_what_is_kept_and_takes_claims_again_with_the_first_room";
    let Some(disk) = small(test) else {
        return;
    };
    let Some(server) = Server::start(test) else {
        return;
    };
    let store = PostgresStore::connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    let folder = disk.folder().join("table");
    fs::create_dir(&folder).unwrap();
    server::own(folder.to_str().unwrap());
    let folder = folder.display();
    server
        .ask(&format!(
            "CREATE TABLESPACE small LOCATION '{folder}'; \
             ALTER TABLE idempotency SET TABLESPACE small; \
             ALTER INDEX idempotency_pkey SET TABLESPACE small; \
             ALTER INDEX idempotency_expires SET TABLESPACE small"
        ))
        .await;
    let before = Before::of(&store).await;
    disk.fill();
    assert_eq!(until_it_fails(&store).await, StoreErrorKind::Full);
    before.must_be_found(&store).await;
    let without = before.complete(&store, RUNNING).await;
    assert!(!without.is_empty());
    println!(
        "PostgreSQL, the disk of the table is full: {} of {} records had no room",
        without.len(),
        RUNNING.len()
    );
    disk.drain();
    until_it_works(&store, &key(100)).await;
    assert!(before.complete(&store, without).await.is_empty());
    store.check().await.unwrap();
}

/// The disk of the write-ahead log, without which the server ends.
#[tokio::test]
async fn a_server_that_ends_since_its_log_has_no_room_loses_nothing_that_was_kept() {
    let test = "a_server_that_ends_since_its_log_has_no_room_loses_nothing_that_was_kept";
    let Some(disk) = small(test) else {
        return;
    };
    let Some(mut server) = Server::with_log_in(test, disk.folder()) else {
        return;
    };
    let store = PostgresStore::connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    let before = Before::of(&store).await;
    disk.fill();
    until_it_fails(&store).await;
    // From some request on, none waits.
    let gone = [StoreErrorKind::Timeout, StoreErrorKind::Unavailable];
    for n in 0..100 {
        let kind = fails(&store, 200_000 + n).await.expect("no room");
        assert!(gone.contains(&kind), "{kind:?}");
    }
    assert_eq!(
        fails(&store, 300_000).await,
        Some(StoreErrorKind::Unavailable)
    );
    disk.drain();
    // It tries to start again by itself once, and ends if it has no room for that.
    server.kill();
    server.run();
    let up = Instant::now();
    until_it_works(&store, &key(100)).await;
    println!(
        "PostgreSQL, the disk of its log is full: protected again {:?} after the server",
        up.elapsed()
    );
    before.must_be_found(&store).await;
    assert!(before.complete(&store, RUNNING).await.is_empty());
}
