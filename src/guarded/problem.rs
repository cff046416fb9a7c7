//! The responses of the layer's own: refusals as problem details (RFC 9457).

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use crate::key::InvalidKey;
use crate::outcome::{NotKept, Outcome};
use crate::refusal::Refusal;
use crate::store::StoreErrorKind;

/// What a response of the layer's own says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Problem {
    /// The request is refused, and its handler has not run.
    Refused(Refusal),
    /// The handler's answer to half an upload.
    BrokenUpload,
    /// The handler has made no response that could be kept.
    NoResponse(NotKept),
    /// The handler has kept its response in a transaction, and not committed that.
    NotCommitted,
    /// The store can't say what became of the handler's response.
    Unknown(StoreErrorKind),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Refusal {
    /// Makes the layer's own answer: problem details (RFC 9457).
    pub fn to_response(&self) -> Response<Bytes> {
        Problem::from(*self).into_response()
    }
}

impl Problem {
    /// Makes the response. Its body is fixed text: it never shows a key, a caller, or a cause.
    pub(crate) fn into_response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from_static(self.body().as_bytes()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        if self.passes() {
            headers.insert(RETRY_AFTER, ONE_SECOND);
        }
        response.extensions_mut().insert(self.outcome());
        response
    }

    /// Returns what the outcome of the response is.
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::Refused(refusal) => match refusal {
                Refusal::MissingKey => Outcome::MissingKey,
                Refusal::InvalidKey(why) => Outcome::InvalidKey(why),
                Refusal::UnknownCaller => Outcome::UnknownCaller,
                Refusal::InProgress => Outcome::InProgress,
                Refusal::KeyReused => Outcome::KeyReused,
                Refusal::StoreFailed(kind) => Outcome::StoreFailed(kind),
            },
            Self::BrokenUpload => Outcome::NotKept(NotKept::BrokenUpload),
            Self::NoResponse(why) => Outcome::NotKept(why),
            Self::NotCommitted => Outcome::NotKept(NotKept::NotCommitted),
            Self::Unknown(kind) => Outcome::StoreFailed(kind),
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Refused(refusal) => refusal.status(),
            Self::BrokenUpload => StatusCode::BAD_REQUEST,
            Self::NoResponse(_) | Self::NotCommitted => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unknown(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns whether the same request may succeed later.
    fn passes(self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.retry_after().is_some(),
            Self::BrokenUpload | Self::NoResponse(_) | Self::NotCommitted => false,
            Self::Unknown(_) => true,
        }
    }

    fn body(self) -> &'static str {
        match self {
            Self::Refused(refusal) => match refusal {
                Refusal::MissingKey => MISSING_KEY,
                Refusal::InvalidKey(InvalidKey::Repeated) => REPEATED_KEY,
                Refusal::InvalidKey(_) => INVALID_KEY,
                Refusal::UnknownCaller => UNKNOWN_CALLER,
                Refusal::InProgress => IN_PROGRESS,
                Refusal::KeyReused => KEY_REUSED,
                Refusal::StoreFailed(_) => STORE_FAILED,
            },
            Self::BrokenUpload => BROKEN_UPLOAD,
            Self::NoResponse(_) => NO_RESPONSE,
            Self::NotCommitted => NOT_COMMITTED,
            Self::Unknown(_) => UNKNOWN,
        }
    }
}

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const ONE_SECOND: HeaderValue = HeaderValue::from_static("1");

/// Writes a problem's body; the type is the address of the outcome's documentation.
macro_rules! problem {
    ($variant:literal, $status:literal, $code:literal, $title:literal, $detail:literal) => {
        concat!(
            r#"{"type":"https://docs.rs/tower-idempotency/latest/tower_idempotency/enum.Outcome.html#variant."#,
            $variant,
            r#"","title":""#,
            $title,
            r#"","status":"#,
            $status,
            r#","code":""#,
            $code,
            r#"","detail":""#,
            $detail,
            r#""}"#
        )
    };
}

const MISSING_KEY: &str = problem!(
    "MissingKey",
    "400",
    "idempotency_key_missing",
    "Idempotency key is missing",
    "This request needs an idempotency key. Send a new one with each new operation."
);
const INVALID_KEY: &str = problem!(
    "InvalidKey",
    "400",
    "idempotency_key_invalid",
    "Idempotency key is invalid",
    "An idempotency key has 1 to 255 printable ASCII characters."
);
const REPEATED_KEY: &str = problem!(
    "InvalidKey",
    "400",
    "idempotency_key_invalid",
    "Idempotency key is invalid",
    "The request has more than one idempotency key. Send exactly one."
);
const UNKNOWN_CALLER: &str = problem!(
    "UnknownCaller",
    "400",
    "idempotency_caller_unknown",
    "The caller can't be identified",
    "An idempotency key counts within its caller. Send the credentials that identify you."
);
const IN_PROGRESS: &str = problem!(
    "InProgress",
    "409",
    "idempotency_key_in_progress",
    "A request with this idempotency key is in progress",
    "The first request with this key has not finished. Retry later with the same key."
);
const KEY_REUSED: &str = problem!(
    "KeyReused",
    "422",
    "idempotency_key_reused",
    "Idempotency key was used for another request",
    "This key belongs to a request with another method or target. Use a new key."
);
const BROKEN_UPLOAD: &str = problem!(
    "NotKept",
    "400",
    "idempotency_upload_broken",
    "The request ended before its body did",
    "Send the request again with the same key."
);
const NO_RESPONSE: &str = problem!(
    "NotKept",
    "500",
    "idempotency_response_broken",
    "The response could not be kept",
    "The server has a fault. The request may be sent again with the same key."
);
const NOT_COMMITTED: &str = problem!(
    "NotKept",
    "500",
    "idempotency_not_committed",
    "The request was not carried out",
    "The server has a fault: it did not commit its changes. The request may be sent again with the same key."
);
const STORE_FAILED: &str = problem!(
    "StoreFailed",
    "503",
    "idempotency_store_unavailable",
    "The idempotency store is unavailable",
    "The request was not carried out. Retry later with the same key."
);
const UNKNOWN: &str = problem!(
    "StoreFailed",
    "503",
    "idempotency_store_unavailable",
    "The idempotency store is unavailable",
    "The request may have been carried out or not. Retry later with the same key."
);
