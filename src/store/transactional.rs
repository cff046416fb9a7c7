//! The contract of a store that keeps a record in the caller's own transaction.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{Owner, Ownership, Record, RecordKey, Store, StoreError};

/// A [`Store`] whose records can be kept in a transaction of the application, so that they are
/// committed with what the application writes, or not at all.
///
/// [`IdempotencyLayer::transactional`] asks for one, and [`Transactional`] is what handlers then
/// use. `Arc<S>` is one where `S` is.
///
/// # What such a store promises
///
/// - The claims and records of [`Store`] are rows of the same database, which other transactions see
///   once theirs is committed, and not before.
/// - A step that meets a row which another transaction has changed and not yet committed waits until
///   that has ended, and then acts on what is there. Only [`Store::begin`] may answer by what is
///   committed already, without waiting.
/// - A claim that is not [durable](super::Claim::is_durable) may be lost when the database's server
///   crashes. A record is as durable as the transaction that it is kept in.
///
/// So at most one of the transactions that keep a record under a key is committed, whatever becomes
/// of the claims: that is what the layer builds on. The feature `conformance` has tests for it.
///
/// # A store of one's own
///
/// This is the one step that such a store has beside those of [`Store`], here over a driver whose
/// transactions borrow their connection. `tests/tokio-postgres` in the repository is the whole of such
/// a store, with a handler that uses it.
///
/// ```ignore
/// impl TransactionalStore for MyStore {
///     type Connection<'c> = tokio_postgres::Transaction<'c>;
///
///     async fn complete_in(
///         &self,
///         // Written like this even where the type has no lifetime.
///         transaction: &mut Self::Connection<'_>,
///         key: &RecordKey,
///         owner: Owner,
///         record: &Record,
///         ttl: Duration,
///     ) -> Result<Ownership, StoreError> {
///         // The statement of `complete`, which changes no row where it must not.
///         let completed = transaction.execute(COMPLETE, &[/* … */]).await;
///         match completed.map_err(store_error)? {
///             0 => Ok(Ownership::Lost),
///             _ => Ok(Ownership::Held),
///         }
///     }
/// }
/// ```
///
/// Its statements take the time of each statement and not of the transaction (in PostgreSQL,
/// `statement_timestamp()` and not `now()`). Its own steps must not share a connection in turn: one
/// that waits for a transaction would hold up those behind it.
///
/// [`IdempotencyLayer::transactional`]: crate::IdempotencyLayer::transactional
/// [`Transactional`]: crate::Transactional
pub trait TransactionalStore: Store {
    /// What a transaction of the application is reached by: the driver's transaction, or a connection
    /// that is inside one. It may borrow, as a transaction often does from its connection.
    type Connection<'c>: Send;

    /// Keeps a record as [`Store::complete`] does, in the transaction that this connection is in.
    ///
    /// # Behavior
    ///
    /// - [`Ownership::Held`]: the record is kept for `ttl` from now on, once the transaction is
    ///   committed. "Now" is when this is called, and not when the transaction began.
    /// - [`Ownership::Lost`]: the key is in progress under another owner, or has a record, be it one
    ///   of this very transaction. Nothing was changed.
    /// - Where the transaction is isolated so strictly that it can't see what is committed, it must
    ///   not be possible to commit it.
    ///
    /// Neither commits the transaction nor ends it.
    ///
    /// # Errors
    ///
    /// If the store has failed. The caller then rolls the transaction back.
    fn complete_in(
        &self,
        connection: &mut Self::Connection<'_>,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> impl Future<Output = Result<Ownership, StoreError>> + Send;
}

#[deny(clippy::missing_trait_methods)]
impl<S: TransactionalStore + ?Sized> TransactionalStore for Arc<S> {
    type Connection<'c> = S::Connection<'c>;

    fn complete_in(
        &self,
        connection: &mut Self::Connection<'_>,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> impl Future<Output = Result<Ownership, StoreError>> + Send {
        S::complete_in(self, connection, key, owner, record, ttl)
    }
}
