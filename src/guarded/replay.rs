//! From a response to its record, and back.

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, HeaderName, SET_COOKIE, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, response};

use crate::outcome::Outcome;
use crate::store::{Fingerprint, Record};

/// Makes the record of a response. A body of `None` says that it is left out.
pub(crate) fn record(
    fingerprint: Fingerprint,
    status: StatusCode,
    headers: &HeaderMap,
    body: Option<&[u8]>,
) -> Record {
    Record::new(fingerprint, status, KeptFields(headers), body)
}

/// Makes the response of a replay.
pub(crate) fn replay(record: &Record) -> Response<Bytes> {
    let body = record.body();
    let mut response = Response::new(body.clone().unwrap_or_default());
    *response.status_mut() = record.status();
    let headers = response.headers_mut();
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    if body.is_none() {
        headers.insert(REPLAY_BODY, HeaderValue::from_static("omitted"));
    }
    for (name, value) in record.fields() {
        if body.is_none() && OF_THE_BODY.contains(&name) {
            continue;
        }
        // No response has more fields than a map can hold, but a record that was damaged, or made
        // by a store, may.
        if headers.try_append(name, value).is_err() {
            break;
        }
    }
    response.extensions_mut().insert(Outcome::Replayed);
    response
}

/// Removes the layer's own markers from a handler's response: they are not for it to set.
pub(crate) fn remove_markers(parts: &mut response::Parts) {
    parts.headers.remove(REPLAYED);
    parts.headers.remove(REPLAY_BODY);
}

/// The header fields of a response that are kept.
#[derive(Clone, Copy)]
struct KeptFields<'a>(&'a HeaderMap);

impl<'a> IntoIterator for KeptFields<'a> {
    type Item = (&'a HeaderName, &'a HeaderValue);
    type IntoIter = KeptFieldsIter<'a>;

    fn into_iter(self) -> KeptFieldsIter<'a> {
        KeptFieldsIter {
            headers: self.0,
            fields: self.0.iter(),
        }
    }
}

struct KeptFieldsIter<'a> {
    headers: &'a HeaderMap,
    fields: http::header::Iter<'a, HeaderValue>,
}

impl<'a> Iterator for KeptFieldsIter<'a> {
    type Item = (&'a HeaderName, &'a HeaderValue);

    fn next(&mut self) -> Option<Self::Item> {
        let headers = self.headers;
        self.fields.find(|(name, _)| is_kept(headers, name))
    }
}

/// Returns whether a header field is kept: all are but those of the connection, of this one message,
/// and of this one client's session.
fn is_kept(headers: &HeaderMap, name: &HeaderName) -> bool {
    !NEVER_KEPT.contains(name) && !is_named_by_connection(headers, name)
}

/// Returns whether `Connection` names this field as one for the next hop only.
fn is_named_by_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    let values = headers.get_all(CONNECTION).iter();
    let mut options = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    options.any(|option| {
        option
            .trim_ascii()
            .eq_ignore_ascii_case(name.as_str().as_bytes())
    })
}

static NEVER_KEPT: [HeaderName; 12] = [
    // Of the connection (RFC 9110, section 7.6.1).
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    // Made anew by the server.
    DATE,
    CONTENT_LENGTH,
    // A session must neither be handed out twice nor lie in a store.
    SET_COOKIE,
    REPLAYED,
    REPLAY_BODY,
];

/// What a record says of the bytes of its body. A client would hold it against the empty body of a
/// replay without one: there is no gzip of no bytes, and no digest of others is theirs.
///
/// Left out at the replay and not of the record, since that may lose its body in a store, too.
static OF_THE_BODY: [HeaderName; 7] = [
    CONTENT_ENCODING,
    CONTENT_RANGE,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("unencoded-digest"),
];

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Marks a replay.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Says of a replay that the body was not kept.
const REPLAY_BODY: HeaderName = HeaderName::from_static("idempotency-replay-body");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_more_fields_than_a_map_can_hold_is_replayed_without_a_panic() {
        let value = HeaderValue::from_static("");
        let name = |n: u32| HeaderName::try_from(format!("x-{n}")).expect("a valid name");
        let names: Vec<_> = (0..40_000).map(name).collect();
        let fields = names.iter().map(|name| (name, &value));
        let record = Record::new(
            Fingerprint::from_bytes([7; 32]),
            StatusCode::CREATED,
            fields,
            None,
        );
        let replay = replay(&record);
        assert_eq!(replay.status(), StatusCode::CREATED);
        assert_eq!(replay.headers()[REPLAYED], "true");
    }
}
