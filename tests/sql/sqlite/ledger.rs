//! A store, and what it was told.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::Row;
use tower_idempotency::SqliteStore;
use tower_idempotency::store::{Begin, Claim, Ownership, Store, StoreErrorKind};

use super::file::ask;
use crate::entry::{claim, key, must_start, record};

/// How long claims and records last, beyond the longest test.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A store on a file, with the claims and records that it must have.
pub(crate) struct Ledger {
    pub(crate) store: SqliteStore,
    path: PathBuf,
    pub(crate) claims: Vec<(u32, Claim)>,
    pub(crate) records: Vec<(u32, Vec<u8>)>,
    ended: u64,
    next: u32,
}

impl Ledger {
    pub(crate) fn new(store: SqliteStore, path: PathBuf) -> Self {
        Self {
            store,
            path,
            claims: Vec::new(),
            records: Vec::new(),
            ended: 0,
            next: 0,
        }
    }

    /// Takes keys until it has taken so many or the store is full: some are left in progress, and the
    /// others are completed for this long.
    pub(crate) async fn take(&mut self, keys: u32, ttl: Duration) -> Result<(), StoreErrorKind> {
        for n in self.next..self.next + keys {
            self.next = n + 1;
            let claim = claim();
            let begun = self.store.begin(&key(n), &claim, HOUR).await;
            must_start(Ok(begun.map_err(|error| error.kind())?));
            if n % 8 == 0 && ttl == HOUR {
                self.claims.push((n, claim));
            } else if let Err(kind) = self.complete(n, &claim, ttl).await {
                self.claims.push((n, claim));
                return Err(kind);
            }
        }
        Ok(())
    }

    async fn complete(
        &mut self,
        n: u32,
        claim: &Claim,
        ttl: Duration,
    ) -> Result<(), StoreErrorKind> {
        let body = vec![n as u8; 100 + n as usize % 2000];
        let record = record(&body);
        let (store, owner) = (&self.store, claim.owner());
        let held = store.complete(&key(n), owner, &record, ttl).await;
        let held = held.map_err(|error| error.kind())?;
        assert_eq!(held, Ownership::Held);
        if ttl == HOUR {
            self.records.push((n, body));
        } else {
            self.ended += 1;
        }
        Ok(())
    }

    /// What is kept is replayed, what runs is refused, and what is new is refused as full.
    pub(crate) async fn must_serve_what_it_has(&self) {
        for (n, body) in &self.records {
            match self.store.begin(&key(*n), &claim(), HOUR).await {
                Ok(Begin::Completed(found)) => assert_eq!(found.body().as_deref(), Some(&body[..])),
                other => panic!("{n}: {other:?}"),
            }
        }
        for (n, _) in &self.claims {
            let begun = self.store.begin(&key(*n), &claim(), HOUR).await;
            assert!(matches!(begun, Ok(Begin::InProgress(_))), "{n}: {begun:?}");
        }
    }

    pub(crate) async fn must_refuse_what_is_new(&self) {
        for n in 0..16 {
            let new = key(1_000_000 + n);
            let begun = self.store.begin(&new, &claim(), HOUR).await;
            let refused = begun.map(drop).map_err(|error| error.kind());
            assert_eq!(refused, Err(StoreErrorKind::Full));
        }
    }

    /// Renews and ends what was claimed, and returns how much of it had no room.
    pub(crate) async fn end_claims(&mut self) -> usize {
        for (n, claim) in std::mem::take(&mut self.claims) {
            let ended = self.end_claim(n, &claim).await;
            if let Err(kind) = ended {
                assert_eq!(kind, StoreErrorKind::Full);
                self.claims.push((n, claim));
            }
        }
        self.claims.len()
    }

    async fn end_claim(&mut self, n: u32, claim: &Claim) -> Result<(), StoreErrorKind> {
        let (key, owner) = (key(n), claim.owner());
        let held = self.store.renew(&key, owner, HOUR).await;
        assert_eq!(held.map_err(|error| error.kind())?, Ownership::Held);
        if n % 3 > 0 {
            return self.complete(n, claim, HOUR).await;
        }
        let held = self.store.release(&key, owner).await;
        assert_eq!(held.map_err(|error| error.kind())?, Ownership::Held);
        Ok(())
    }

    /// Lets the older half of what is there end.
    pub(crate) async fn end_half(&mut self) {
        // Starts the log over, since this is no step of the store, which does so itself.
        ask(&self.path, "PRAGMA wal_checkpoint").await;
        let half = "UPDATE idempotency SET expires = 1
            WHERE rowid < (SELECT (min(rowid) + max(rowid)) / 2 FROM idempotency) RETURNING key";
        let rows = ask(&self.path, half).await;
        let ended: HashSet<_> = rows.iter().map(|row| row.get::<Vec<u8>, _>(0)).collect();
        let is_kept = |n: u32| !ended.contains(&key(n).as_bytes()[..]);
        self.records.retain(|(n, _)| is_kept(*n));
        self.claims.retain(|(n, _)| is_kept(*n));
        self.ended += ended.len() as u64;
    }

    pub(crate) async fn clean(&mut self) {
        assert_eq!(self.store.clean().await.unwrap(), self.ended);
        self.ended = 0;
    }

    /// Ends all claims that there are: what has no room for its record even now is given up.
    pub(crate) async fn settle_claims(&mut self) {
        self.end_claims().await;
        for (n, claim) in std::mem::take(&mut self.claims) {
            let held = self.store.release(&key(n), claim.owner()).await;
            assert_eq!(held.unwrap(), Ownership::Held);
        }
    }
}

/// Completes a claim, which must be held.
pub(crate) async fn must_complete(store: &SqliteStore, n: u32, claim: &Claim) {
    let (key, record) = (key(n), record(b"{}"));
    let held = store.complete(&key, claim.owner(), &record, HOUR).await;
    assert_eq!(held.unwrap(), Ownership::Held);
}
