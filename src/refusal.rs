//! Why the layer answers a request by itself.

use std::time::Duration;

use http::StatusCode;

use crate::key::InvalidKey;
use crate::store::StoreErrorKind;

/// Why the layer refuses a request, for an API that words its errors itself: see
/// [`IdempotencyLayer::refuse_with`](crate::IdempotencyLayer::refuse_with), which has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// 400: the request has no key, and `require_key` is set.
    MissingKey,
    /// 400: the key is invalid, or there is more than one.
    InvalidKey(InvalidKey),
    /// 400: the caller can't be identified, and `require_key` is set.
    UnknownCaller,
    /// 409: the first request with this key is still running.
    InProgress,
    /// 422: the key belongs to a request with another method or target.
    KeyReused,
    /// 503: the store fails, and [`StoreFailure::Closed`](crate::StoreFailure::Closed) is set.
    StoreFailed(StoreErrorKind),
}

impl Refusal {
    /// Returns the status that the layer answers with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::MissingKey | Self::InvalidKey(_) | Self::UnknownCaller => StatusCode::BAD_REQUEST,
            Self::InProgress => StatusCode::CONFLICT,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::StoreFailed(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the stable name of the reason, which is the `code` of the layer's own answer.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingKey => "idempotency_key_missing",
            Self::InvalidKey(_) => "idempotency_key_invalid",
            Self::UnknownCaller => "idempotency_caller_unknown",
            Self::InProgress => "idempotency_key_in_progress",
            Self::KeyReused => "idempotency_key_reused",
            Self::StoreFailed(_) => "idempotency_store_unavailable",
        }
    }

    /// Returns after which time the same request may succeed, which is the `Retry-After` of the
    /// layer's own answer.
    pub fn retry_after(&self) -> Option<Duration> {
        let passes = matches!(self, Self::InProgress | Self::StoreFailed(_));
        passes.then_some(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{CONTENT_TYPE, RETRY_AFTER};

    #[test]
    fn the_layers_own_answer_is_what_the_refusal_says() {
        for refusal in [
            Refusal::MissingKey,
            Refusal::InvalidKey(InvalidKey::Empty),
            Refusal::InvalidKey(InvalidKey::Repeated),
            Refusal::UnknownCaller,
            Refusal::InProgress,
            Refusal::KeyReused,
            Refusal::StoreFailed(StoreErrorKind::Full),
        ] {
            let response = refusal.to_response();
            assert_eq!(response.status(), refusal.status());
            let headers = response.headers();
            assert_eq!(headers[CONTENT_TYPE], "application/problem+json");
            let seconds = headers.get(RETRY_AFTER).map(|value| {
                let text = value.to_str().expect("text");
                Duration::from_secs(text.parse().expect("seconds"))
            });
            assert_eq!(seconds, refusal.retry_after());
            let problem: serde_json::Value = serde_json::from_slice(response.body()).expect("JSON");
            assert_eq!(problem["code"], refusal.code());
            assert_eq!(problem["status"], refusal.status().as_u16());
            let of_type = problem["type"].as_str().expect("text");
            assert!(of_type.starts_with("https://"), "{of_type}");
        }
    }
}
