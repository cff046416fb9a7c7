//! Outages of a memory store.
//!
//! An outage of `renew`, `complete` and `release` that is shorter than a lease breaks no promise. One
//! of `begin` does: the layer fails open, so a handler may run twice. The keys of the requests that
//! it meets are set apart, and so are those whose lease or ttl really ends under them, because the
//! machine stood still.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::plan::{LEASE, TTL};
use support::{Call, Director, Fault, Reply, Step};
use tower_idempotency::RecordKey;

#[derive(Default)]
pub(crate) struct Outages {
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
    pub(crate) fault: Fault,
    /// Whether claims fail, too.
    pub(crate) of_begin: bool,
}

impl Outages {
    pub(crate) fn set(&self, outage: Option<Outage>) {
        *self.outage.lock().unwrap() = outage;
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

impl Director for Outages {
    fn fault(&self, step: &Step<'_>) -> Option<Fault> {
        let is_begin = step.call == Call::Begin;
        let outage = *self.outage.lock().unwrap();
        let outage = outage.filter(|outage| outage.of_begin || !is_begin)?;
        self.failed_calls.fetch_add(1, Ordering::Relaxed);
        if is_begin {
            self.exposed.lock().unwrap().insert(*step.key);
        }
        Some(outage.fault)
    }

    fn taken(&self, step: &Step<'_>, reply: Reply<'_>) {
        if !reply.is_held() {
            return;
        }
        match step.call {
            Call::Begin => self.claimed(step.key),
            Call::Complete => {
                // The time before the step, so that the record ends no earlier than it is known to.
                let known = Known::Completed(step.at);
                self.keys.lock().unwrap().insert(*step.key, known);
            }
            Call::Renew => {
                let mut keys = self.keys.lock().unwrap();
                if let Some(Known::Claimed(known)) = keys.get_mut(step.key) {
                    *known = step.at;
                }
            }
            Call::Release => drop(self.keys.lock().unwrap().remove(step.key)),
        }
    }
}
