//! What a handler keeps its response with, in a transaction of its own.

mod error;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body::Body;

pub use self::error::{TransactionalError, TransactionalErrorKind};
use crate::guarded::transaction::Transaction;
use crate::store::TransactionalStore;

/// Keeps a handler's response in the handler's own transaction, so that its effects and the record
/// are committed together, or neither is.
///
/// A handler that has committed its effects and dies before its response is kept would run again.
/// With this it can't: at most one run for a key is ever committed, whatever becomes of processes,
/// connections, leases, and the store.
///
/// It is in the extensions of each request through a layer with
/// [`IdempotencyLayer::transactional`](crate::IdempotencyLayer::transactional), protected or not. `St`
/// is the type that was given to `IdempotencyLayer::new`.
///
/// [Exactly once](crate::guide::exactly_once) has an example, what is promised, and what is not.
pub struct Transactional<St> {
    transaction: Option<Arc<Transaction<St>>>,
}

impl<St> Transactional<St> {
    /// For a request that is guarded.
    pub(crate) fn of(transaction: Transaction<St>) -> Self {
        Self {
            transaction: Some(Arc::new(transaction)),
        }
    }

    /// For a request that is not guarded.
    pub(crate) fn unguarded() -> Self {
        Self { transaction: None }
    }

    /// Returns whether the request is protected, so that its response can be kept.
    pub fn is_protected(&self) -> bool {
        self.transaction.is_some()
    }
}

impl<St: TransactionalStore> Transactional<St> {
    /// Keeps a response in the transaction that a connection is in, and returns the response.
    ///
    /// Call it last before the commit, and return the response that it gives back. `connection` is
    /// what the store says, such as sqlx's `PgConnection`, to which `&mut tx` of a `Transaction`
    /// coerces. It must lead to the table of the store, in the same database and schema.
    ///
    /// # Behavior
    ///
    /// - A request that is not protected, and a response that the layer's rule does not keep (such as
    ///   a 5xx, or one with [`DoNotKeep`](crate::DoNotKeep)), is given back, and nothing is written.
    ///   The key of the latter is free when the handler is done.
    /// - The body is read before, up to
    ///   [`max_response_bytes`](crate::IdempotencyLayer::max_response_bytes). A longer one reaches the
    ///   client whole, and is kept without its body. What is behind that limit is still unread in the
    ///   response that is given back, so whatever stands between handler and layer must not look into
    ///   such a body.
    /// - If the store had failed to claim the key, this claims it, too: the request is protected after
    ///   all.
    /// - It may be called again after its transaction was rolled back, as in a loop over serialization
    ///   failures. The last call counts.
    /// - It waits for other transactions as long as the connection's own settings say (such as
    ///   `lock_timeout`), and not for `store_timeout`.
    ///
    /// The response is recognised by a mark in its extensions: a middleware inside the layer may change
    /// its headers, which are then not part of the record, but must hand its extensions on.
    ///
    /// # Errors
    ///
    /// [`TransactionalErrorKind`] has each case. The transaction must then be rolled back, which `?`
    /// does where dropping the transaction does. The error can be made into a response.
    pub async fn in_transaction<B>(
        &self,
        connection: &mut St::Connection<'_>,
        response: Response<B>,
    ) -> Result<Response<B>, TransactionalError>
    where
        B: Body<Data = Bytes> + From<Bytes> + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match &self.transaction {
            Some(transaction) => transaction.keep(connection, response).await,
            None => Ok(response),
        }
    }
}

// By hand, since a derive would ask the store to be `Clone`.
impl<St> Clone for Transactional<St> {
    fn clone(&self) -> Self {
        Self {
            transaction: self.transaction.clone(),
        }
    }
}

impl<St> fmt::Debug for Transactional<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactional")
            .field("is_protected", &self.is_protected())
            .finish_non_exhaustive()
    }
}
