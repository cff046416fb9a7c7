//! What happens to requests while the store fails.

/// What becomes of a request whose key can't be claimed because the store fails: see
/// [`IdempotencyLayer::on_store_failure`](crate::IdempotencyLayer::on_store_failure).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreFailure {
    /// The handler runs, unprotected: the API works as well as it would without the layer.
    #[default]
    Open,
    /// The request is refused with 503 and `Retry-After`, and the handler does not run: no write
    /// runs unprotected, and the API is down while its store is.
    Closed,
}
