//! The store in the memory of one process.

mod expiry;
mod shared;
mod slot;
mod sweeper;
mod tick;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::shared::Shared;
use super::{Begin, Claim, Owner, Ownership, Record, RecordKey, Store, StoreError};

/// A [`Store`] in the memory of one process: fast, not shared with other processes, not durable.
///
/// A clone works on the same records. The room that keys take is bounded, by default by 256 MiB. A
/// store that is full drops what has ended. If that does not help it refuses new claims, and their
/// requests go through unprotected. Records stay, since they were promised to earlier callers, and
/// so do claims in progress.
///
/// Room is given back about a second after a record's ttl or a claim's lease has ended, by a task
/// that runs on the tokio runtime of a claim while the store is not empty. If that runtime is not
/// driven any more, a claim on another one starts another task. Without a runtime, or on one
/// without timers, claims give the room back themselves. Time is tokio's, so that a test can pause
/// it.
///
/// # Examples
///
/// ```
/// use tower_idempotency::{IdempotencyLayer, MemoryStore};
///
/// let store = MemoryStore::new().max_bytes(64 * 1024 * 1024);
/// let layer = IdempotencyLayer::new(store.clone());
/// assert_eq!(store.len(), 0);
/// # let _ = layer;
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

impl MemoryStore {
    /// Creates an empty store that holds at most 256 MiB.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared::new(256 * 1024 * 1024)),
        }
    }

    /// Sets how many bytes keys and records may take before new claims are refused. Default: 256
    /// MiB.
    ///
    /// A handler that has run may still be completed up to 5 % beyond the limit. All clones share
    /// one limit.
    ///
    /// # Panics
    ///
    /// Panics if `max_bytes` is below 4 KiB, which is hardly enough for a record.
    #[must_use]
    pub fn max_bytes(self, max_bytes: usize) -> Self {
        assert!(
            max_bytes >= 4096,
            "max_bytes is {max_bytes}, but a store needs room for records: give it at least 4096"
        );
        self.shared.set_max_bytes(max_bytes);
        self
    }

    /// Returns the number of claims in progress and records, including those that have ended and
    /// still take room.
    ///
    /// Walks over all shards of the table.
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Returns whether no key is in the store.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many bytes keys and records take, as counted against the limit.
    pub fn bytes(&self) -> usize {
        self.shared.bytes()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("len", &self.len())
            .field("bytes", &self.bytes())
            .finish()
    }
}

impl Store for MemoryStore {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        self.shared.begin(key, claim, lease)
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        self.shared.complete(key, owner, record, ttl)
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        Ok(self.shared.renew(key, owner, lease))
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        Ok(self.shared.release(key, owner))
    }
}
