//! Which responses are kept by default.

use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderMap, StatusCode, response};

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

/// Tells whether a response is kept by default.
///
/// Not kept are
///
/// - 1xx and 5xx, and 401, 408, 425 and 429, which say "not now";
/// - a binary or streaming one, told by its `Content-Type` (kept are: none, `text/*` but
///   `text/event-stream`, JSON, XML, forms and JavaScript, and types that end in `+json` or `+xml`)
///   or by `Content-Disposition: attachment`.
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
    has_final_status(parts.status) && has_text(&parts.headers) && !is_attachment(&parts.headers)
}

fn has_final_status(status: StatusCode) -> bool {
    !(status.is_informational()
        || status.is_server_error()
        || matches!(
            status,
            StatusCode::UNAUTHORIZED
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_EARLY
                | StatusCode::TOO_MANY_REQUESTS
        ))
}

fn has_text(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let essence = first_part(content_type.as_bytes());
    let Some(slash) = essence.iter().position(|byte| *byte == b'/') else {
        return false;
    };
    let (kind, subtype) = (&essence[..slash], &essence[slash + 1..]);
    let is_one_of = |names: &[&str]| {
        let mut names = names.iter();
        names.any(|name| subtype.eq_ignore_ascii_case(name.as_bytes()))
    };
    if kind.eq_ignore_ascii_case(b"text") {
        return !is_one_of(&["event-stream"]);
    }
    (kind.eq_ignore_ascii_case(b"application") && is_one_of(TEXT_APPLICATIONS))
        || ends_with(subtype, b"+json")
        || ends_with(subtype, b"+xml")
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

fn ends_with(text: &[u8], suffix: &[u8]) -> bool {
    let start = text.len().checked_sub(suffix.len());
    start.is_some_and(|start| text[start..].eq_ignore_ascii_case(suffix))
}

const TEXT_APPLICATIONS: &[&str] = &[
    "json",
    "xml",
    "x-www-form-urlencoded",
    "javascript",
    "x-javascript",
    "ecmascript",
];

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
    fn status_decides_by_whether_it_says_not_now() {
        for status in 100..1000 {
            let refused = matches!(status, 100..=199 | 500..=599 | 401 | 408 | 425 | 429);
            assert_eq!(is_kept(status, &[]), !refused, "status {status}");
        }
    }

    #[test]
    fn content_type_decides_by_whether_it_is_text() {
        for kept in [
            "text/plain",
            "text/html; charset=utf-8",
            "TEXT/CSV",
            "application/json",
            "Application/JSON;charset=utf-8",
            "application/xml",
            "application/x-www-form-urlencoded",
            "application/javascript",
            "application/problem+json",
            "application/vnd.api+JSON ; ext=a",
            "image/svg+xml",
        ] {
            assert!(is_kept(200, &[("content-type", kept)]), "{kept}");
        }
        for not_kept in [
            "text/event-stream",
            "Text/Event-Stream; charset=utf-8",
            "application/pdf",
            "application/octet-stream",
            "image/png",
            "application/grpc",
            "application/x-ndjson",
            "multipart/form-data; boundary=x+json",
            "json",
            "",
        ] {
            assert!(!is_kept(200, &[("content-type", not_kept)]), "{not_kept}");
        }
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
