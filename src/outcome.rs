//! What the layer did with a request, for logs and metrics.

use std::fmt;

use http::Extensions;

use crate::key::InvalidKey;
use crate::store::StoreErrorKind;

/// What the layer did with a request, told in the extensions of the response.
///
/// Every response of the layer carries one, but for requests of a method that is not guarded, which
/// pass through at no cost; [`Outcome::of`] reads both.
///
/// # Examples
///
/// ```
/// use tower_idempotency::Outcome;
///
/// let response = http::Response::new(());
/// let outcome = Outcome::of(response.extensions());
/// assert_eq!(outcome, Outcome::PassedThrough(tower_idempotency::Unprotected::Method));
/// assert_eq!(outcome.as_str(), "passed_through_method");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The request went straight to the handler, unprotected.
    PassedThrough(Unprotected),
    /// First time request: the handler ran, and its response is kept.
    Kept,
    /// First time request: the handler ran; its body is over `max_response_bytes`, so status and
    /// headers are kept without it.
    KeptWithoutBody,
    /// First time request: the handler ran, and its response is being kept while the body, whose
    /// size is not known, is sent.
    Recording,
    /// First time request: the handler ran, its response is not kept, and the key is free again.
    NotKept(NotKept),
    /// First time request: the handler ran; because the store failed, it ran unprotected, or what
    /// came of it could not be told to the store.
    StoreFailed(StoreErrorKind),
    /// Duplicate request: the kept response was sent again.
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
            Self::StoreFailed(StoreErrorKind::Unavailable) => "store_unavailable",
            Self::StoreFailed(StoreErrorKind::Timeout) => "store_timeout",
            Self::StoreFailed(StoreErrorKind::Full) => "store_full",
            Self::StoreFailed(StoreErrorKind::Corrupt) => "store_corrupt",
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
    /// It has a key, but nobody can tell whose it is.
    NoCaller,
}

/// Why a response was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotKept {
    /// The rule of the layer is against it: see [`IdempotencyLayer::keep_if`].
    ///
    /// [`IdempotencyLayer::keep_if`]: crate::IdempotencyLayer::keep_if
    Rule,
    /// The handler put [`DoNotKeep`](crate::DoNotKeep) into the response's extensions.
    DoNotKeep,
    /// The request's body broke before its end, so the response is to a torn request.
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
}
