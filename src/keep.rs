//! Which responses are kept by default.

mod format;
mod status;

use std::time::Duration;

use http::header::CONTENT_DISPOSITION;
use http::{HeaderMap, response};

/// Put into a response's extensions by a handler, says that the response is not to be kept.
///
/// The key is then free again before the response leaves, and a retry runs the handler. It holds
/// whatever rule [`keep_if`](crate::IdempotencyLayer::keep_if) sets.
///
/// # Examples
///
/// ```
/// use http::Response;
/// use tower_idempotency::DoNotKeep;
///
/// let mut response = Response::new("try again when the quota is raised");
/// response.extensions_mut().insert(DoNotKeep);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoNotKeep;

/// Put into a response's extensions by a handler, says how long this one is kept, in place of the
/// layer's [`ttl`](crate::IdempotencyLayer::ttl).
///
/// Less than a millisecond is taken for a millisecond, and more than a century for a century.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use http::Response;
/// use tower_idempotency::KeepFor;
///
/// let mut response = Response::new("{\"payment\":1}");
/// response.extensions_mut().insert(KeepFor(Duration::from_secs(7 * 24 * 60 * 60)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepFor(
    /// How long, from the end of the request.
    pub Duration,
);

/// Decides which responses are kept by default: all but those that say "again", files, and streams.
///
/// Not kept are
///
/// - **1xx and 5xx**: not an answer, or one that may change;
/// - **401, 407, 408, 417, 421, 425, 426, 429**: send this request again, with credentials, later,
///   or in another way;
/// - **307 and 308**: send this request again, to another address;
/// - **any 4xx with `Retry-After`**: send this request again, later;
/// - **gRPC**, whatever its suffix: its result is in the trailers, which are not kept;
/// - **streams and sequences**: `text/event-stream`, NDJSON, `json-seq`, `cbor-seq`, and those of
///   the Connect protocol;
/// - **files**: PDF, images, audio, video, archives, `application/octet-stream`, multipart, and
///   anything with `Content-Disposition: attachment`.
///
/// Of the rest, kept are
///
/// - **no `Content-Type`** at all;
/// - **text**: all other `text/*`, JSON, XML, YAML, JavaScript, and forms;
/// - **binary answers**: CBOR, MessagePack, Protobuf, and JWT;
/// - **anything built on these**, by its suffix: `+json`, `+xml`, `+yaml`, `+cbor`, `+msgpack`,
///   `+protobuf`, `+jwt`.
///
/// A format that is in neither list is taken for a file.
///
/// # Examples
///
/// A rule that keeps server errors, too:
///
/// ```
/// use tower_idempotency::{IdempotencyLayer, MemoryStore, is_kept_by_default};
///
/// let layer = IdempotencyLayer::new(MemoryStore::new())
///     .keep_if(|parts| parts.status.is_server_error() || is_kept_by_default(parts));
/// # let _ = layer;
/// ```
pub fn is_kept_by_default(parts: &response::Parts) -> bool {
    let headers = &parts.headers;
    status::is_final(parts.status, headers)
        && format::is_of_an_api(headers)
        && !is_attachment(headers)
}

fn is_attachment(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_DISPOSITION).iter();
    values.any(|value| first_part(value.as_bytes()).eq_ignore_ascii_case(b"attachment"))
}

/// Returns what comes before the parameters of a header's value.
fn first_part(value: &[u8]) -> &[u8] {
    let end = value.iter().position(|byte| *byte == b';');
    value[..end.unwrap_or(value.len())].trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;

    fn is_kept(status: u16, fields: &[(&'static str, &'static str)]) -> bool {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let (parts, ()) = response.body(()).expect("a valid response").into_parts();
        is_kept_by_default(&parts)
    }

    #[test]
    fn status_format_and_disposition_each_can_speak_against_keeping_a_response() {
        const JSON: (&str, &str) = ("content-type", "application/json");
        const INLINE: (&str, &str) = ("content-disposition", "inline");
        assert!(is_kept(201, &[JSON, INLINE]));
        assert!(is_kept(409, &[JSON, INLINE]));
        assert!(!is_kept(503, &[JSON, INLINE]));
        assert!(!is_kept(409, &[JSON, INLINE, ("retry-after", "1")]));
        assert!(!is_kept(201, &[("content-type", "image/png"), INLINE]));
        assert!(!is_kept(
            201,
            &[JSON, ("content-disposition", "attachment")]
        ));
    }

    #[test]
    fn an_attachment_is_not_kept_and_an_inline_part_is() {
        let with = |value| is_kept(200, &[("content-disposition", value)]);
        assert!(!with("attachment; filename=\"invoice.txt\""));
        assert!(!with("Attachment"));
        assert!(with("inline"));
        assert!(with("inline; filename=attachment"));
    }
}
