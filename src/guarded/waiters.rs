//! Who waits in this process for whose answer.

use std::collections::HashMap;
use std::fmt;
use std::future::pending;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use crate::runtime::Background;
use crate::store::RecordKey;

/// The waiters of a layer and its clones, by key. A clone has the same.
#[derive(Clone, Default)]
pub(crate) struct Waiters {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Of all keys, so that a layer for which nobody waits takes no lock.
    count: AtomicUsize,
    places: Mutex<HashMap<RecordKey, Occupied>>,
}

/// A place, and how many wait there.
struct Occupied {
    place: Arc<Place>,
    count: usize,
}

/// Where a key's waiters wait.
struct Place {
    woken: Notify,
    /// Whoever holds this is the one who asks the store next.
    turn: tokio::sync::Mutex<Turn>,
}

/// When the store is asked again, and how long after that.
struct Turn {
    at: Instant,
    pause: Duration,
}

impl Waiters {
    /// Adds a waiter until the result is dropped, unless there are too many.
    pub(crate) fn enter(&self, key: RecordKey) -> Option<Waiter> {
        let mut places = self.places();
        if self.shared.count.load(Ordering::SeqCst) >= MAX {
            return None;
        }
        let occupied = places.entry(key).or_insert_with(|| Occupied {
            place: Arc::new(Place::new()),
            count: 0,
        });
        if occupied.count >= MAX_OF_A_KEY {
            return None;
        }
        occupied.count += 1;
        self.shared.count.fetch_add(1, Ordering::SeqCst);
        Some(Waiter {
            place: Arc::clone(&occupied.place),
            waiters: self.clone(),
            key,
        })
    }

    /// Wakes one of a key's waiters, since the key is free. If that one leaves before it has heard of
    /// it, another is woken.
    pub(crate) fn wake_one(&self, key: &RecordKey) {
        if let Some(place) = self.place(key) {
            place.woken.notify_one();
        }
    }

    /// Wakes all of a key's waiters, since there is an answer.
    pub(crate) fn wake_all(&self, key: &RecordKey) {
        if let Some(place) = self.place(key) {
            place.woken.notify_waiters();
        }
    }

    fn place(&self, key: &RecordKey) -> Option<Arc<Place>> {
        // A waiter is counted before it asks the store, and so before it can find the key in a state
        // that has ended by now.
        if self.shared.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let places = self.places();
        Some(Arc::clone(&places.get(key)?.place))
    }

    fn places(&self) -> MutexGuard<'_, HashMap<RecordKey, Occupied>> {
        let places = self.shared.places.lock();
        // Nothing that holds this lock can leave the places half-changed.
        places.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.shared.count.load(Ordering::SeqCst);
        f.debug_struct("Waiters")
            .field("count", &count)
            .field("keys", &self.places().len())
            .finish()
    }
}

/// One waiter, for as long as it waits.
pub(crate) struct Waiter {
    waiters: Waiters,
    key: RecordKey,
    place: Arc<Place>,
}

impl Waiter {
    /// Waits to be woken, by whatever happens from this call on.
    pub(crate) fn woken(&self) -> Notified<'_> {
        self.place.woken.notified()
    }

    /// Waits until it is time to ask the store, which one waiter of the key does at a time.
    pub(crate) async fn turn(&self, background: &Background) {
        let mut turn = self.place.turn.lock().await;
        let left = turn.at.saturating_duration_since(Instant::now());
        match background.sleep(left) {
            Some(sleep) => sleep.await,
            None => pending().await,
        }
        turn.pause = (turn.pause * 2).min(LONGEST_PAUSE);
        turn.at = Instant::now() + shortened(turn.pause);
    }

    /// Wakes the others, since there is an answer.
    pub(crate) fn wake_others(&self) {
        self.place.woken.notify_waiters();
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut places = self.waiters.places();
        if let Some(occupied) = places.get_mut(&self.key) {
            occupied.count -= 1;
            if occupied.count == 0 {
                places.remove(&self.key);
            }
        }
        self.waiters.shared.count.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Place {
    fn new() -> Self {
        let turn = Turn {
            at: Instant::now() + shortened(FIRST_PAUSE),
            pause: FIRST_PAUSE,
        };
        Self {
            woken: Notify::new(),
            turn: tokio::sync::Mutex::new(turn),
        }
    }
}

/// Shortens a pause by up to half, at random, so that processes do not ask in step.
fn shortened(pause: Duration) -> Duration {
    // The keys of a `RandomState` are random, and so is what it makes of nothing.
    let random = RandomState::new().build_hasher().finish();
    pause - pause.mul_f64(random as f64 / u64::MAX as f64 / 2.0)
}

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many may wait for one key.
const MAX_OF_A_KEY: usize = 100;
/// How many may wait for all keys together.
const MAX: usize = 10_000;
