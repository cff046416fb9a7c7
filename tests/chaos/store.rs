//! A memory store with outages.
//!
//! An outage of `renew`, `complete` and `release` that is shorter than a lease breaks no promise. One
//! of `begin` does: the layer fails open, so a handler may run twice. The keys of the requests that
//! it meets are set apart, and so are those whose lease or ttl really ends under them, because the
//! machine stood still.

use std::collections::{HashMap, HashSet};
use std::future::{Future, pending};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::plan::{LEASE, TTL};
use tower_idempotency::store::{Begin, Claim, Owner, Ownership, Record, StoreErrorKind};
use tower_idempotency::{MemoryStore, RecordKey, Store, StoreError};

#[derive(Default)]
pub(crate) struct Outages {
    pub(crate) inner: MemoryStore,
    outage: Mutex<Option<Outage>>,
    pub(crate) failed_calls: AtomicUsize,
    keys: Mutex<HashMap<RecordKey, Known>>,
    /// The keys that an outage of `begin` has met.
    exposed: Mutex<HashSet<RecordKey>>,
    /// The keys that were claimed anew after their ttl had really ended, or their lease because the
    /// machine stood still.
    outlived: Mutex<HashSet<RecordKey>>,
    /// By how much a timer was late, each time that it was.
    stalls: Mutex<Vec<(Instant, Duration)>>,
}

/// The last that was done with a key, and when.
#[derive(Clone, Copy)]
enum Known {
    Claimed(Instant),
    Completed(Instant),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    pub(crate) how: How,
    /// Whether claims fail, too.
    pub(crate) of_begin: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    FailBefore,
    FailAfter,
    HangBefore,
    HangAfter,
}

impl Outages {
    pub(crate) fn set(&self, outage: Option<Outage>) {
        *self.outage.lock().unwrap() = outage;
    }

    async fn take<T>(
        &self,
        is_begin: bool,
        key: &RecordKey,
        step: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let outage = *self.outage.lock().unwrap();
        let Some(outage) = outage.filter(|outage| outage.of_begin || !is_begin) else {
            return step.await;
        };
        self.failed_calls.fetch_add(1, Ordering::Relaxed);
        if is_begin {
            self.exposed.lock().unwrap().insert(*key);
        }
        match outage.how {
            How::FailBefore => {}
            How::FailAfter => drop(step.await?),
            How::HangBefore => return pending().await,
            How::HangAfter => {
                drop(step.await?);
                return pending().await;
            }
        }
        Err(StoreErrorKind::Unavailable.into())
    }

    pub(crate) fn is_exposed(&self, key: &RecordKey) -> bool {
        self.exposed.lock().unwrap().contains(key)
    }

    pub(crate) fn is_outlived(&self, key: &RecordKey) -> bool {
        self.outlived.lock().unwrap().contains(key)
    }

    pub(crate) fn stalled(&self, time: Duration) {
        self.stalls.lock().unwrap().push((Instant::now(), time));
    }

    pub(crate) fn longest_stall(&self) -> Duration {
        let stalls = self.stalls.lock().unwrap();
        let longest = stalls.iter().map(|(_, time)| *time).max();
        longest.unwrap_or_default()
    }

    /// Notes a claim of a key, and whether there is an excuse for what was there to have ended.
    fn claimed(&self, key: &RecordKey) {
        let now = Instant::now();
        let claimed = Known::Claimed(now);
        let is_excused = match self.keys.lock().unwrap().insert(*key, claimed) {
            None => false,
            Some(Known::Completed(since)) => now >= since + TTL,
            Some(Known::Claimed(since)) => {
                let stalls = self.stalls.lock().unwrap();
                let meanwhile = stalls.iter().filter(|(at, _)| *at >= since);
                let stalled: Duration = meanwhile.map(|(_, time)| *time).sum();
                now >= since + LEASE && stalled >= LEASE / 5
            }
        };
        if is_excused {
            self.outlived.lock().unwrap().insert(*key);
        }
    }
}

impl Store for Outages {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        let step = async {
            let begun = self.inner.begin(key, claim, lease).await;
            if matches!(begun, Ok(Begin::Started)) {
                self.claimed(key);
            }
            begun
        };
        self.take(true, key, step).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        let step = async {
            // The time before the step, so that the record ends no earlier than it is known to.
            let now = Instant::now();
            let held = self.inner.complete(key, owner, record, ttl).await;
            if matches!(held, Ok(Ownership::Held)) {
                let known = Known::Completed(now);
                self.keys.lock().unwrap().insert(*key, known);
            }
            held
        };
        self.take(false, key, step).await
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        let step = async {
            let now = Instant::now();
            let held = self.inner.renew(key, owner, lease).await;
            if matches!(held, Ok(Ownership::Held)) {
                if let Some(Known::Claimed(known)) = self.keys.lock().unwrap().get_mut(key) {
                    *known = now;
                }
            }
            held
        };
        self.take(false, key, step).await
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        let step = async {
            let held = self.inner.release(key, owner).await;
            if matches!(held, Ok(Ownership::Held)) {
                self.keys.lock().unwrap().remove(key);
            }
            held
        };
        self.take(false, key, step).await
    }
}
