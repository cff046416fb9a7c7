//! What is to become of a response, as far as its head says.

use std::panic::{AssertUnwindSafe, catch_unwind};

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode, response};
use http_body::{Body, SizeHint};

use crate::body::UploadState;
use crate::config::Config;
use crate::keep::DoNotKeep;
use crate::outcome::NotKept;
use crate::store::RecordKey;
use crate::trace;

/// What is to become of a response, as far as its head says.
pub(crate) enum Judgement {
    NotKept(NotKept),
    /// The rule panicked, and so nobody knows.
    RulePanicked,
    /// Its status is one of those that have no body.
    WithoutContent,
    /// Its body is over the limit.
    TooLong,
    /// Its body has this size, and is read whole before it is sent.
    OfSize(u64),
    /// Its body is copied while it is sent.
    OfUnknownSize,
}

impl Judgement {
    /// Judges a response by its head, and by what is known of its body.
    pub(crate) fn of<B: Body>(
        parts: &response::Parts,
        body: &B,
        config: &Config,
        key: &RecordKey,
        upload: &UploadState,
    ) -> Self {
        let why_not = catch_unwind(AssertUnwindSafe(|| why_not_kept(parts, config, upload)));
        match why_not {
            Err(_) => {
                trace::rule_panicked(key);
                return Self::RulePanicked;
            }
            Ok(Some(why)) => return Self::NotKept(why),
            Ok(None) => {}
        }
        if matches!(
            parts.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        ) {
            // RFC 9110, section 6.4.1: no server sends a body with these, nor reads it.
            return Self::WithoutContent;
        }
        let size = size_of(body);
        let declared = declared_length(&parts.headers).unwrap_or(0);
        let least = size.exact().unwrap_or(size.lower().max(declared));
        if least > config.max_response_bytes as u64 {
            Self::TooLong
        } else {
            size.exact().map_or(Self::OfUnknownSize, Self::OfSize)
        }
    }
}

/// Names the reason against keeping a response, if there is one.
fn why_not_kept(parts: &response::Parts, config: &Config, upload: &UploadState) -> Option<NotKept> {
    if upload.is_broken() {
        Some(NotKept::BrokenUpload)
    } else if parts.extensions.get::<DoNotKeep>().is_some() {
        Some(NotKept::DoNotKeep)
    } else if parts.status.is_informational() || !(config.keep_if)(parts) {
        Some(NotKept::Rule)
    } else {
        None
    }
}

/// Returns what is known of a body's size.
fn size_of<B: Body>(body: &B) -> SizeHint {
    if body.is_end_stream() {
        // One that has ended need not say so by its size.
        SizeHint::with_exact(0)
    } else {
        body.size_hint()
    }
}

/// Returns what `Content-Length` says, where it counts: beside `Transfer-Encoding` it does not (RFC
/// 9112, section 6.3).
pub(crate) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(CONTENT_LENGTH)?;
    if headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    length.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_content_length_counts_alone_and_not_beside_a_transfer_encoding() {
        for (length, declared) in [("10", Some(10)), ("0", Some(0)), ("ten", None), ("", None)] {
            let length = HeaderValue::from_static(length);
            let mut headers = HeaderMap::from_iter([(CONTENT_LENGTH, length)]);
            assert_eq!(declared_length(&headers), declared);
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            assert_eq!(declared_length(&headers), None);
        }
        assert_eq!(declared_length(&HeaderMap::new()), None);
    }
}
