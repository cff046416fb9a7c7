//! Whether the store works, so that an outage is one event in the log when it begins and one when
//! it ends, however many requests meet it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::{RecordKey, StoreError, StoreErrorKind};
use crate::trace;

/// What the last steps of the store came to.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    down: Trouble,
    full: Trouble,
}

/// One way in which a store fails, and whether it does.
#[derive(Debug, Default)]
struct Trouble {
    is_on: AtomicBool,
    failures: Mutex<Option<Failures>>,
}

#[derive(Debug)]
struct Failures {
    count: u64,
    last: Instant,
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
        if trouble.begins() {
            trace::outage_began(step, key, error);
        } else {
            trace::store_failed_again(step, key, error);
        }
    }

    pub(crate) fn has_answered(&self) {
        if let Some(failures) = self.down.ends() {
            trace::outage_ended(failures);
        }
    }

    /// Notes a new claim, which a full store does not take: it still does all the rest.
    pub(crate) fn has_claimed(&self) {
        if let Some(failures) = self.full.ends() {
            trace::store_has_room(failures);
        }
    }
}

impl Trouble {
    /// Notes a failure, and returns whether it is the first one.
    fn begins(&self) -> bool {
        let mut failures = self.failures();
        let count = failures.as_ref().map_or(0, |failures| failures.count) + 1;
        let last = Instant::now();
        *failures = Some(Failures { count, last });
        self.is_on.store(true, Ordering::Relaxed);
        count == 1
    }

    /// Notes a success, and returns how many failures came before if it is the one that ends them.
    ///
    /// A store that works now and then is still in trouble, and is not reported each time.
    fn ends(&self) -> Option<u64> {
        // Read first, so that a store that works costs no lock.
        if !self.is_on.load(Ordering::Relaxed) {
            return None;
        }
        let mut failures = self.failures();
        let ended = failures.take_if(|failures| failures.last.elapsed() >= CALM)?;
        self.is_on.store(false, Ordering::Relaxed);
        Some(ended.count)
    }

    fn failures(&self) -> MutexGuard<'_, Option<Failures>> {
        // Nothing that holds this lock can leave the failures half-noted.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long no step may have failed when trouble is over.
const CALM: Duration = Duration::from_secs(10);
