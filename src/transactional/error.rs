//! Why a response could not be kept in the handler's transaction.

use std::error::Error;
use std::fmt;

use bytes::Bytes;
use http::Response;

use crate::guarded::problem::Problem;
use crate::store::{StoreError, StoreErrorKind};

/// An error of [`Transactional::in_transaction`]: its kind, and the cause as
/// [`source`](Error::source). The transaction is to be rolled back.
///
/// `Response::from(error)` is what its client should get: problem details (RFC 9457) with the status
/// of the [kind](TransactionalErrorKind).
///
/// [`Transactional::in_transaction`]: crate::Transactional::in_transaction
#[derive(Debug)]
pub struct TransactionalError {
    kind: TransactionalErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl TransactionalError {
    pub(crate) fn new(
        kind: TransactionalErrorKind,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            source: Some(source.into()),
        }
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> TransactionalErrorKind {
        self.kind
    }
}

impl From<TransactionalErrorKind> for TransactionalError {
    fn from(kind: TransactionalErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl From<StoreError> for TransactionalError {
    fn from(error: StoreError) -> Self {
        Self::new(TransactionalErrorKind::Store(error.kind()), error)
    }
}

impl fmt::Display for TransactionalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the response is not kept: {}", self.kind)
    }
}

impl Error for TransactionalError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl<B: From<Bytes>> From<TransactionalError> for Response<B> {
    fn from(error: TransactionalError) -> Self {
        let problem = match error.kind {
            TransactionalErrorKind::LeaseLost | TransactionalErrorKind::AlreadyKept => {
                Problem::InProgress
            }
            TransactionalErrorKind::BrokenUpload => Problem::BrokenUpload,
            TransactionalErrorKind::BrokenBody | TransactionalErrorKind::RulePanicked => {
                Problem::NoResponse
            }
            TransactionalErrorKind::Store(kind) => Problem::StoreFailed(kind),
        };
        problem.into_response().map(B::from)
    }
}

/// The kind of a [`TransactionalError`], with the status of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransactionalErrorKind {
    /// Another request has taken the key over, or has completed it. 409 with `Retry-After`: the retry
    /// will find out.
    LeaseLost,
    /// A call before this one has kept a response already, in this transaction or in one that was
    /// committed. 409 with `Retry-After`, unless the layer finds the record and answers with that.
    AlreadyKept,
    /// The request's body broke before its end, so that the effects are those of half a request. 400.
    BrokenUpload,
    /// The response's body broke before its end. 500.
    BrokenBody,
    /// The rule of [`IdempotencyLayer::keep_if`](crate::IdempotencyLayer::keep_if) panicked. 500.
    RulePanicked,
    /// The store failed, in this way. 503 with `Retry-After`.
    ///
    /// The [`source`](Error::source) is the [`StoreError`], and its source that of the driver, such
    /// as a serialization failure.
    Store(StoreErrorKind),
}

impl fmt::Display for TransactionalErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaseLost => f.write_str("another request has its idempotency key"),
            Self::AlreadyKept => f.write_str("one is kept for this request already"),
            Self::BrokenUpload => f.write_str("the request's body broke before its end"),
            Self::BrokenBody => f.write_str("its body broke before its end"),
            Self::RulePanicked => f.write_str("the rule of keep_if panicked"),
            Self::Store(kind) => write!(f, "the idempotency store {kind}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::RETRY_AFTER;

    #[test]
    fn each_kind_has_a_response_and_those_that_a_retry_may_mend_say_when() {
        for (kind, status, retry) in [
            (TransactionalErrorKind::LeaseLost, 409, true),
            (TransactionalErrorKind::AlreadyKept, 409, true),
            (TransactionalErrorKind::BrokenUpload, 400, false),
            (TransactionalErrorKind::BrokenBody, 500, false),
            (TransactionalErrorKind::RulePanicked, 500, false),
            (
                TransactionalErrorKind::Store(StoreErrorKind::Timeout),
                503,
                true,
            ),
        ] {
            let response: Response<Bytes> = TransactionalError::from(kind).into();
            assert_eq!(response.status(), status, "{kind}");
            assert_eq!(
                response.headers().contains_key(RETRY_AFTER),
                retry,
                "{kind}"
            );
            let problem: serde_json::Value = serde_json::from_slice(response.body()).expect("JSON");
            assert_eq!(problem["status"], status, "{kind}");
        }
    }

    #[test]
    fn the_cause_is_the_source() {
        let error = StoreError::new(StoreErrorKind::Full, "no room");
        let error = TransactionalError::from(error);
        assert_eq!(
            error.kind(),
            TransactionalErrorKind::Store(StoreErrorKind::Full)
        );
        let source = error.source().expect("a source");
        assert_eq!(source.to_string(), "the idempotency store is full");
        assert_eq!(source.source().expect("a source").to_string(), "no room");
    }
}
