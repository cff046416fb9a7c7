//! What the documentation says of a request: the layer's rules, written down a second time.

use http::{HeaderMap, Response};
use tower_idempotency::is_kept_by_default;

use super::exchange::MAX_RESPONSE_BYTES;
use super::input::Input;

pub enum Expected {
    PassedThrough(&'static str),
    Refused,
    /// The handler's response goes out, and a retry runs the handler.
    Freed,
    /// A retry gets the response, with this body or without one.
    Kept {
        body: Option<Vec<u8>>,
    },
}

pub fn expected(input: &Input) -> Expected {
    if !["POST", "PUT", "PATCH", "DELETE"].contains(&input.method.as_str()) {
        return Expected::PassedThrough("passed_through_method");
    }
    let keys: Vec<_> = input.headers.get_all("idempotency-key").iter().collect();
    match &keys[..] {
        [] => return Expected::PassedThrough("passed_through_no_key"),
        [key] if super::key::is_valid(key.as_bytes()) => {}
        _ => return Expected::Refused,
    }
    let fields = input.headers.iter();
    let fields: Vec<_> = fields
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if super::caller::credentials(&fields).is_none() {
        return Expected::PassedThrough("passed_through_no_caller");
    }
    let mut response = Response::new(());
    *response.status_mut() = input.status;
    *response.headers_mut() = input.response_headers.clone();
    let upload_broke = input.reads_upload && breaks(input);
    if upload_broke || !is_kept_by_default(&response.into_parts().0) {
        return Expected::Freed;
    }
    let body = input.response.whole();
    if [204, 304].contains(&input.status.as_u16()) {
        // No server sends a body with these.
        Expected::Kept {
            body: Some(Vec::new()),
        }
    } else if body.data.len() > MAX_RESPONSE_BYTES {
        Expected::Kept { body: None }
    } else if body.is_broken {
        Expected::Freed
    } else {
        Expected::Kept {
            body: Some(body.data),
        }
    }
}

/// Whether the upload breaks: in an error, or before the length that only its header declares.
fn breaks(input: &Input) -> bool {
    let upload = input.upload.whole();
    let length = input.headers.get("content-length");
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let is_declared = !input.upload.is_sized && !input.headers.contains_key("transfer-encoding");
    let is_short = length.is_some_and(|length| (upload.data.len() as u64) < length);
    upload.is_broken || is_declared && is_short
}

pub fn without_markers(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    headers.remove("idempotency-replayed");
    headers.remove("idempotency-replay-body");
    headers
}

/// The header fields that a replay has.
pub fn kept(headers: &HeaderMap) -> HeaderMap {
    let mut kept = without_markers(headers);
    for value in headers.get_all("connection") {
        // As text, in which a byte outside ASCII is in no name.
        let value: String = value
            .as_bytes()
            .iter()
            .map(|byte| char::from(*byte))
            .collect();
        for option in value.split(',') {
            kept.remove(option.trim_matches([' ', '\t']).to_ascii_lowercase());
        }
    }
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "date",
        "content-length",
        "set-cookie",
    ] {
        kept.remove(name);
    }
    kept
}
