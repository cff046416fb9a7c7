//! The responses of the layer's own: refusals as problem details (RFC 9457).

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use crate::key::InvalidKey;
use crate::outcome::{NotKept, Outcome};
use crate::store::StoreErrorKind;

/// Why a request is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Problem {
    MissingKey,
    InvalidKey(InvalidKey),
    UnknownCaller,
    InProgress,
    KeyReused,
    /// The handler's answer to half an upload.
    BrokenUpload,
    /// The handler has made no response that could be kept.
    NoResponse,
    /// The store can't say what became of the handler's response.
    StoreFailed(StoreErrorKind),
}

impl Problem {
    /// Makes the response. Its body is fixed text: it never shows a key, a caller, or a cause.
    pub(crate) fn into_response(self) -> Response<Bytes> {
        let (status, outcome, body) = match self {
            Self::MissingKey => (StatusCode::BAD_REQUEST, Outcome::MissingKey, MISSING_KEY),
            Self::InvalidKey(why) => (
                StatusCode::BAD_REQUEST,
                Outcome::InvalidKey(why),
                match why {
                    InvalidKey::Repeated => REPEATED_KEY,
                    _ => INVALID_KEY,
                },
            ),
            Self::UnknownCaller => (
                StatusCode::BAD_REQUEST,
                Outcome::UnknownCaller,
                UNKNOWN_CALLER,
            ),
            Self::InProgress => (StatusCode::CONFLICT, Outcome::InProgress, IN_PROGRESS),
            Self::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                Outcome::KeyReused,
                KEY_REUSED,
            ),
            Self::BrokenUpload => (
                StatusCode::BAD_REQUEST,
                Outcome::NotKept(NotKept::BrokenUpload),
                BROKEN_UPLOAD,
            ),
            Self::NoResponse => (
                StatusCode::INTERNAL_SERVER_ERROR,
                Outcome::NotKept(NotKept::Rule),
                NO_RESPONSE,
            ),
            Self::StoreFailed(kind) => (
                StatusCode::SERVICE_UNAVAILABLE,
                Outcome::StoreFailed(kind),
                STORE_FAILED,
            ),
        };
        let mut response = Response::new(Bytes::from_static(body.as_bytes()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        if matches!(self, Self::InProgress | Self::StoreFailed(_)) {
            headers.insert(RETRY_AFTER, ONE_SECOND);
        }
        response.extensions_mut().insert(outcome);
        response
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
    "Nothing was done. Send the request again with the same key."
);
const NO_RESPONSE: &str = problem!(
    "NotKept",
    "500",
    "idempotency_response_broken",
    "The response could not be made",
    "Nothing was done."
);
const STORE_FAILED: &str = problem!(
    "StoreFailed",
    "503",
    "idempotency_store_unavailable",
    "The idempotency store is unavailable",
    "The request may have been carried out or not. Retry later with the same key."
);
