//! Whether the store works, so that an outage is one event in the log when it begins and one when
//! it ends, however many requests meet it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::store::{RecordKey, StoreError, StoreErrorKind};
use crate::trace;

/// What the last steps of the store came to.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    down: Trouble,
    full: Trouble,
}

#[derive(Debug, Default)]
struct Trouble {
    is_on: AtomicBool,
    failures: AtomicU64,
}

impl Outage {
    pub(crate) fn has_failed(&self, step: &'static str, key: &RecordKey, error: &StoreError) {
        let trouble = match error.kind() {
            StoreErrorKind::Unavailable
            | StoreErrorKind::Timeout
            | StoreErrorKind::Misconfigured => &self.down,
            StoreErrorKind::Full => &self.full,
            // Of one record, and not of the store.
            StoreErrorKind::Corrupt => return trace::record_corrupt(step, key, error),
        };
        trouble.failures.fetch_add(1, Ordering::Relaxed);
        if trouble.is_on.swap(true, Ordering::Relaxed) {
            trace::store_failed_again(step, key, error);
        } else {
            trace::outage_began(step, key, error);
        }
    }

    pub(crate) fn has_answered(&self) {
        self.down.has_ended(trace::outage_ended);
    }

    /// Notes a new claim, which a full store does not take: it still does all the rest.
    pub(crate) fn has_claimed(&self) {
        self.full.has_ended(trace::store_has_room);
    }
}

impl Trouble {
    fn has_ended(&self, report: fn(u64)) {
        // Read first, since a write would make all threads wait for one cache line.
        if self.is_on.load(Ordering::Relaxed) && self.is_on.swap(false, Ordering::Relaxed) {
            report(self.failures.swap(0, Ordering::Relaxed));
        }
    }
}
