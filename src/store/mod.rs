//! The stores in which the layer keeps its records, and the contract that they fulfil.
//!
//! An application picks a store and gives it to [`IdempotencyLayer::new`]. Only the author of a
//! store needs more from this module: [`Store`] has the contract, and a link to an example.
//!
//! [`IdempotencyLayer::new`]: crate::IdempotencyLayer::new

mod claim;
#[cfg(feature = "conformance")]
pub mod conformance;
mod dynamic;
mod error;
mod fingerprint;
#[cfg(feature = "memory")]
pub(crate) mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod record;
mod record_key;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
mod transactional;
#[cfg(any(feature = "redis", feature = "postgres", feature = "sqlite"))]
mod wire;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub use self::claim::{Begin, Claim, Owner, Ownership};
pub use self::dynamic::DynStore;
pub use self::error::{StoreError, StoreErrorKind};
pub use self::fingerprint::Fingerprint;
#[cfg(feature = "memory")]
pub use self::memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresStore;
pub use self::record::{MalformedRecord, Record};
pub use self::record_key::RecordKey;
#[cfg(feature = "redis")]
pub use self::redis::RedisStore;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteStore;
pub use self::transactional::TransactionalStore;

/// A place that keeps claims and records by [`RecordKey`].
///
/// The example [`custom_store.rs`] is a complete one, in about 80 lines. A store states facts; the
/// layer decides what they mean for a request. A key is in one of three states:
///
/// ```text
///                           complete, late
///      ┌─────────────────────────────────────────────────┐
///      │      begin                      complete        ▼
///   absent ─────────▶ in progress ─────────────────▶ completed
///      ▲                │  ▲  │                          │
///      │   release, or  │  └──┘ renew                    │ its ttl
///      ├─ lease ends ───┘                                │ ends
///      └─────────────────────────────────────────────────┘
/// ```
///
/// # What a store promises
///
/// - Each method is one atomic step: of any number of concurrent `begin` calls for an absent key,
///   exactly one is answered [`Begin::Started`].
/// - `renew` and `release` act only while the key is in progress under the owner that they are
///   given, and its lease has not ended. Otherwise they change nothing and answer
///   [`Ownership::Lost`].
/// - `complete` keeps the record unless the key is in progress under another owner or has a record.
///   In these two cases it changes nothing and answers [`Ownership::Lost`]. An owner whose lease
///   has ended, or whose claim never arrived, may thus still complete a key that nobody else has
///   claimed since: its handler has run, and must not run again.
/// - A key whose lease or ttl has ended is absent from that moment on. A term lasts as long as it
///   was asked for, give or take the clock's precision, from some moment between the call and its
///   answer; the clock is read as part of the step, not before it. The room of a key that has ended
///   is given back in time, without a request coming in.
/// - A record comes back as it was given, byte for byte. Keys, owners and fingerprints may hold any
///   bytes.
/// - A record is never replaced before its ttl ends, and never dropped to make room for others. A
///   store that is full refuses new claims, with [`StoreErrorKind::Full`].
/// - Time is the store's own, so that the clocks of several processes do not matter.
///
/// The feature `conformance` has a test for each of these promises.
///
/// # Cancellation
///
/// The layer drops a future of the store that takes longer than its `store_timeout`. The step may
/// then have been taken or not. Both are fine, but half a step is not.
///
/// # Clones and wrappers
///
/// If a store can be cloned, the clone works on the same records. `Arc<S>` is a store where `S`
/// is one, and [`DynStore`] is a store whose type is chosen at run time.
///
/// [`custom_store.rs`]: https://docs.rs/crate/tower-idempotency/latest/source/examples/custom_store.rs
pub trait Store: Send + Sync + 'static {
    /// Claims a key, or reports what is there.
    ///
    /// # Behavior
    ///
    /// - Absent: the key is in progress for `lease` under the claim's owner, and
    ///   [`Begin::Started`] is returned.
    /// - In progress: returns [`Begin::InProgress`] with the fingerprint of the claim that holds
    ///   it. Its lease is not prolonged.
    /// - Completed: returns [`Begin::Completed`] with the record. Its ttl is not prolonged.
    ///
    /// # Errors
    ///
    /// - [`StoreErrorKind::Full`]: there is no room for another claim.
    /// - [`StoreErrorKind::Corrupt`]: what is under the key can't be read. It is left there.
    /// - Any other kind: the store has failed.
    ///
    /// The layer then runs the handler unprotected.
    fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> impl Future<Output = Result<Begin, StoreError>> + Send;

    /// Keeps a record under a key for `ttl` from now on.
    ///
    /// # Behavior
    ///
    /// - In progress under this owner: the record takes the claim's place, and [`Ownership::Held`]
    ///   is returned.
    /// - Absent: the record is kept all the same, and [`Ownership::Held`] is returned. The lease
    ///   has ended, the claim was released, or its step was lost, and nobody else has claimed the
    ///   key.
    /// - In progress under another owner, or completed: nothing changes, and [`Ownership::Lost`] is
    ///   returned, even if the record is the owner's own.
    ///
    /// # Errors
    ///
    /// - [`StoreErrorKind::Full`]: there is no room for the record.
    /// - Any other kind: the store has failed.
    ///
    /// The layer tries again in the background. After [`StoreErrorKind::Full`] it first tries at
    /// once to keep the record without its body.
    fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> impl Future<Output = Result<Ownership, StoreError>> + Send;

    /// Prolongs a claim to `lease` from now on.
    ///
    /// # Errors
    ///
    /// If the store has failed. The layer tries again while the lease lasts.
    fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> impl Future<Output = Result<Ownership, StoreError>> + Send;

    /// Gives a claim up, so that the key is absent again.
    ///
    /// # Errors
    ///
    /// If the store has failed. The key then becomes free when the lease ends.
    fn release(
        &self,
        key: &RecordKey,
        owner: Owner,
    ) -> impl Future<Output = Result<Ownership, StoreError>> + Send;
}

#[deny(clippy::missing_trait_methods)]
impl<S: Store + ?Sized> Store for Arc<S> {
    fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> impl Future<Output = Result<Begin, StoreError>> + Send {
        S::begin(self, key, claim, lease)
    }

    fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> impl Future<Output = Result<Ownership, StoreError>> + Send {
        S::complete(self, key, owner, record, ttl)
    }

    fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> impl Future<Output = Result<Ownership, StoreError>> + Send {
        S::renew(self, key, owner, lease)
    }

    fn release(
        &self,
        key: &RecordKey,
        owner: Owner,
    ) -> impl Future<Output = Result<Ownership, StoreError>> + Send {
        S::release(self, key, owner)
    }
}
