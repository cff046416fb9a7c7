//! What the layer did with a request, for logs and metrics.

use std::fmt;

use http::Extensions;

use crate::key::InvalidKey;
use crate::store::StoreErrorKind;

/// What the layer did with a request, in the extensions of its response.
///
/// Every response of the layer carries one, but for requests of a method that is not protected,
/// which pass through at no cost. [`Outcome::of`] reads both.
///
/// # Examples
///
/// A middleware further out counts the outcomes by name:
///
/// ```
/// # use std::collections::BTreeMap;
/// # use std::sync::{Arc, Mutex};
/// # use axum::{Router, body::Body, response::Response, routing::post};
/// # use http::Request;
/// # use tower::{ServiceBuilder, ServiceExt};
/// # use tower_idempotency::{IdempotencyLayer, MemoryStore, Outcome};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), axum::BoxError> {
/// let counts = Arc::new(Mutex::new(BTreeMap::<&str, u64>::new()));
/// let count = {
///     let counts = Arc::clone(&counts);
///     move |response: Response<_>| {
///         let outcome = Outcome::of(response.extensions());
///         *counts.lock().unwrap().entry(outcome.as_str()).or_default() += 1;
///         response
///     }
/// };
/// let layers = ServiceBuilder::new()
///     .map_response(count)
///     .layer(IdempotencyLayer::new(MemoryStore::new()));
/// let app: Router = Router::new().route("/vms", post(async || "created")).layer(layers);
/// # for _ in 0..3 {
/// #     let request = Request::post("/vms")
/// #         .header("x-api-key", "alice-key")
/// #         .header("idempotency-key", "order-1")
/// #         .body(Body::empty())?;
/// #     app.clone().oneshot(request).await?;
/// # }
///
/// // A write, and two retries of it, later:
/// assert_eq!(*counts.lock().unwrap(), [("kept", 1), ("replayed", 2)].into());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The request went straight to the handler, unprotected.
    PassedThrough(Unprotected),
    /// First time request: the handler ran, and its response is kept.
    Kept,
    /// First time request: the handler ran, and status and headers are kept. The body is not, since
    /// it is over `max_response_bytes`.
    KeptWithoutBody,
    /// First time request: the handler ran. Its body is of unknown size, and the response is kept
    /// when that has ended.
    Recording,
    /// First time request: the handler ran, its response is not kept, and the key is free again.
    NotKept(NotKept),
    /// First time request: the handler ran, and the store failed. So it ran unprotected, or its
    /// response may not have been kept. With 503, nobody knows whether its
    /// [`Transactional`](crate::Transactional) response was committed, and a retry will find out.
    StoreFailed(StoreErrorKind),
    /// Duplicate request: the kept response was sent again. Or a first time request whose handler has
    /// failed after its transaction was committed: see [`Transactional`](crate::Transactional).
    Replayed,
    /// Concurrent request: the first one is still running. Refused with 409.
    InProgress,
    /// The key was used for another method or target. Refused with 422.
    KeyReused,
    /// The request has no key, and `require_key` is set. Refused with 400.
    MissingKey,
    /// The request's key is invalid. Refused with 400.
    InvalidKey(InvalidKey),
    /// The request has a key, its caller can't be identified, and `require_key` is set. Refused with
    /// 400.
    UnknownCaller,
}

impl Outcome {
    /// Reads the outcome from a response's extensions.
    pub fn of(extensions: &Extensions) -> Self {
        let outcome = extensions.get().copied();
        outcome.unwrap_or(Self::PassedThrough(Unprotected::Method))
    }

    /// Returns a short name in snake case, for the label of a metric.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::PassedThrough(Unprotected::Method) => "passed_through_method",
            Self::PassedThrough(Unprotected::NoKey) => "passed_through_no_key",
            Self::PassedThrough(Unprotected::NoCaller) => "passed_through_no_caller",
            Self::Kept => "kept",
            Self::KeptWithoutBody => "kept_without_body",
            Self::Recording => "recording",
            Self::NotKept(NotKept::Rule) => "not_kept_rule",
            Self::NotKept(NotKept::DoNotKeep) => "not_kept_do_not_keep",
            Self::NotKept(NotKept::BrokenUpload) => "not_kept_broken_upload",
            Self::NotKept(NotKept::BrokenBody) => "not_kept_broken_body",
            Self::NotKept(NotKept::RulePanicked) => "not_kept_rule_panicked",
            Self::NotKept(NotKept::LeaseLost) => "not_kept_lease_lost",
            Self::NotKept(NotKept::NotCommitted) => "not_kept_not_committed",
            Self::StoreFailed(StoreErrorKind::Unavailable) => "store_unavailable",
            Self::StoreFailed(StoreErrorKind::Timeout) => "store_timeout",
            Self::StoreFailed(StoreErrorKind::Full) => "store_full",
            Self::StoreFailed(StoreErrorKind::Corrupt) => "store_corrupt",
            Self::StoreFailed(StoreErrorKind::Misconfigured) => "store_misconfigured",
            Self::Replayed => "replayed",
            Self::InProgress => "in_progress",
            Self::KeyReused => "key_reused",
            Self::MissingKey => "missing_key",
            Self::InvalidKey(_) => "invalid_key",
            Self::UnknownCaller => "unknown_caller",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a request passed through unprotected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unprotected {
    /// Its method is not one of the layer's `methods`.
    Method,
    /// It has no idempotency key.
    NoKey,
    /// It has a key, but its caller can't be identified.
    NoCaller,
}

/// Why a response was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotKept {
    /// The layer's rule says so: see [`IdempotencyLayer::keep_if`].
    ///
    /// [`IdempotencyLayer::keep_if`]: crate::IdempotencyLayer::keep_if
    Rule,
    /// The handler put [`DoNotKeep`](crate::DoNotKeep) into the response's extensions.
    DoNotKeep,
    /// The request's body broke before its end, so the response answers half a request.
    BrokenUpload,
    /// The response's body broke before its end.
    BrokenBody,
    /// The rule of [`IdempotencyLayer::keep_if`] panicked. The key stays claimed until its lease ends.
    ///
    /// [`IdempotencyLayer::keep_if`]: crate::IdempotencyLayer::keep_if
    RulePanicked,
    /// The lease ended before the handler did, and another request has claimed the key or completed
    /// it since, so that the handler may have run again: the store lost the claim or could not be
    /// reached to renew it, or the handler blocked its thread.
    LeaseLost,
    /// The handler kept a response in a transaction that was then not committed, and returned this one
    /// instead: see [`Transactional`](crate::Transactional).
    NotCommitted,
}
