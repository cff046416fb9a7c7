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
/// # Examples
///
/// An axum handler for PostgreSQL. With `SqliteStore` it is the same, but begins with
/// `pool.begin_with("BEGIN IMMEDIATE")`, since SQLite refuses to write in a transaction that has read
/// before somebody else wrote. The example `payments.rs` is a whole application.
#[cfg_attr(feature = "postgres", doc = "```")]
#[cfg_attr(not(feature = "postgres"), doc = "```ignore")]
/// # use axum::{Extension, Json, extract::State, response::{IntoResponse, Response}};
/// # use http::StatusCode;
/// # use sqlx::{PgConnection, PgPool};
/// use tower_idempotency::{PostgresStore, Transactional, TransactionalError};
/// # struct Payment;
/// # async fn charge(_: &mut PgConnection, _: Payment) -> Result<&'static str, sqlx::Error> { Ok("") }
///
/// async fn pay(
///     Extension(keep): Extension<Transactional<PostgresStore>>,
///     State(pool): State<PgPool>,
///     payment: Payment,
/// ) -> Result<Response, AppError> {
///     let mut tx = pool.begin().await?;
///     let receipt = charge(&mut tx, payment).await?;
///     let response = (StatusCode::CREATED, Json(receipt)).into_response();
///     // An error rolls the effects back, as `tx` is dropped.
///     let response = keep.in_transaction(&mut tx, response).await?;
///     tx.commit().await?;
///     Ok(response)
/// }
///
/// enum AppError {
///     Database(sqlx::Error),
///     NotKept(TransactionalError),
/// }
///
/// impl IntoResponse for AppError {
///     fn into_response(self) -> Response {
///         match self {
///             Self::Database(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
///             // 409 with `Retry-After`, or what else the error says.
///             Self::NotKept(error) => error.into(),
///         }
///     }
/// }
/// # impl From<sqlx::Error> for AppError {
/// #     fn from(error: sqlx::Error) -> Self { Self::Database(error) }
/// # }
/// # impl From<TransactionalError> for AppError {
/// #     fn from(error: TransactionalError) -> Self { Self::NotKept(error) }
/// # }
/// ```
///
/// # Promises
///
/// - The effects are committed if and only if the record is, and at most once a key, for as long as
///   the record is kept ([`ttl`](crate::IdempotencyLayer::ttl)).
/// - A process that stopped for longer than its lease can't commit after another has taken over.
/// - A handler that fails after [`in_transaction`](Self::in_transaction), by an error, a panic or
///   another response, has its client answered by what is true: the kept response if the transaction
///   was committed all the same, the failure if not, and 503 with `Retry-After` if the database can't
///   say within [`store_timeout`](crate::IdempotencyLayer::store_timeout).
///
/// Not promised: effects outside of this database, such as an e-mail. Nor does it help a handler that
/// commits in more than one transaction: only the one with the record is protected.
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
