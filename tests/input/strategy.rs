//! Input that is likely to be near a border.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::check;
use crate::check::input::Input;
use crate::check::script::{Play, Script};

type Fields = Vec<(HeaderName, HeaderValue)>;

/// Names that mean something to the layer in a request, and one that does not.
pub const REQUEST: &[&str] = &[
    "idempotency-key",
    "authorization",
    "x-api-key",
    "expect",
    "content-length",
    "x-other",
];
/// Names that mean something to the layer in a response, and one that does not.
pub const RESPONSE: &[&str] = &[
    "content-type",
    "content-disposition",
    "content-length",
    "content-encoding",
    "content-digest",
    "content-range",
    "retry-after",
    "connection",
    "set-cookie",
    "date",
    "keep-alive",
    "transfer-encoding",
    "idempotency-replayed",
    "idempotency-replay-body",
    "x-other",
    "x-more",
];
const WORDS: &[&str] = &[
    "",
    "text/plain",
    "text/event-stream",
    "application/json",
    "application/problem+json",
    "image/svg+xml",
    "application/x-msgpack",
    "application/vnd.google.protobuf",
    "application/grpc",
    "application/grpc-web+json",
    "application/connect+json",
    "application/geo+json-seq",
    "application/pdf",
    "json",
    "attachment",
    "attachment; filename=a",
    "inline",
    "close, x-other",
    "X-More ,, x-other",
    "100-continue",
    "true",
    "key",
    "secret",
    " ",
    "Bearer",
    "bearer  t",
    "Bearer t",
    "Basic Og==",
    "Digest nc=1",
    "OAuth oauth_nonce=1",
    "OAuth t",
    "AWS4-HMAC-SHA256 Signature=1",
    "V2-HMAC-SHA256, Signature: 1",
];

/// Statuses that mean something to the layer, and their neighbours.
const STATUSES: &[u16] = &[
    101, 201, 204, 304, 307, 308, 400, 401, 407, 408, 409, 417, 421, 422, 425, 426, 429, 500, 503,
];

/// A value: a word with a meaning, or any bytes that a header may have. Some are sensitive.
fn value() -> impl Strategy<Value = HeaderValue> {
    let value = prop_oneof![
        3 => select(WORDS).prop_map(HeaderValue::from_static),
        1 => vec(any::<u8>(), 0..12).prop_filter_map("a value", |v| HeaderValue::from_bytes(&v).ok()),
    ];
    (value, proptest::bool::weighted(0.2)).prop_map(|(mut value, is_sensitive)| {
        value.set_sensitive(is_sensitive);
        value
    })
}

pub fn fields(names: &'static [&'static str]) -> impl Strategy<Value = Fields> {
    let name = select(names).prop_map(HeaderName::from_static);
    vec((name, value()), 0..8)
}

/// Field lines for the key, most of them one that is valid or nearly so.
pub fn key_lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let valid = prop_oneof![4 => b' '..=b'~', 1 => Just(b' '), 1 => Just(b'~')];
    let invalid = select(&[0, b'\t', 0x1F, 0x7F, 0x80, 0xC3, 0xFF][..]);
    let length = prop_oneof![0..4_usize, 253..258_usize, 0..300_usize];
    let line = length.prop_flat_map(move |length| vec(valid.clone(), length));
    let damage = proptest::option::weighted(0.2, (any::<prop::sample::Index>(), invalid));
    let line = (line, damage).prop_map(|(mut line, damage)| {
        if let (Some((at, byte)), false) = (damage, line.is_empty()) {
            let at = at.index(line.len());
            line[at] = byte;
        }
        line
    });
    prop_oneof![6 => vec(line.clone(), 1), 1 => vec(line, 0..4)]
}

/// Two callers that are equal, nearly so, or not at all.
pub fn two_callers() -> impl Strategy<Value = (Fields, Fields)> {
    let one = || fields(REQUEST);
    prop_oneof![
        (one(), one()),
        one().prop_flat_map(|one| (Just(one.clone()), Just(one).prop_shuffle())),
        // The same values under other names.
        (one(), vec(select(REQUEST), 8)).prop_map(|(one, names)| {
            let names = names.into_iter().map(HeaderName::from_static);
            let other = names.zip(one.iter().map(|(_, value)| value.clone()));
            let other = other.collect();
            (one, other)
        }),
    ]
}

/// Bytes to put in place of others: in front, where the layout is, or anywhere.
pub fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, bool, u8)>> {
    let byte = prop_oneof![0..16_u8, any::<u8>()];
    vec((any::<prop::sample::Index>(), any::<bool>(), byte), 1..4)
}

pub fn status() -> impl Strategy<Value = StatusCode> {
    let number = prop_oneof![
        2 => Just(200_u16),
        2 => select(STATUSES),
        1 => 100..1000_u16,
    ];
    number.prop_map(|number| StatusCode::from_u16(number).unwrap())
}

fn script() -> impl Strategy<Value = Script> {
    let play = prop_oneof![
        6 => vec(any::<u8>(), 0..12).prop_map(|data| Play::Data(Bytes::from(data))),
        2 => Just(Play::Wait),
        1 => Just(Play::Trailers),
        1 => Just(Play::Break),
    ];
    (any::<bool>(), vec(play, 0..5)).prop_map(|(is_sized, frames)| Script::new(is_sized, frames))
}

/// A request, mostly one that is guarded.
pub fn request() -> impl Strategy<Value = Input> {
    let method = prop_oneof![
        4 => select(vec![Method::POST, Method::PUT, Method::PATCH, Method::DELETE]),
        1 => select(vec![Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE]),
    ];
    let uri = select(&["/", "/orders?region=a", "http://api.example/orders", "*"][..]);
    let usual = vec![
        (
            HeaderName::from_static("idempotency-key"),
            HeaderValue::from_static("key"),
        ),
        (
            HeaderName::from_static("x-api-key"),
            HeaderValue::from_static("secret"),
        ),
    ];
    let more = fields(&["authorization", "expect", "content-length", "x-other"]);
    let headers = prop_oneof![
        3 => more.prop_map(move |more| [usual.clone(), more].concat()),
        1 => fields(REQUEST),
    ];
    let request = (method, uri, headers, script(), any::<bool>());
    let response = (status(), fields(RESPONSE), script());
    (request, response).prop_map(|(request, response)| {
        let (method, uri, headers, upload, reads_upload) = request;
        let (status, response_headers, response) = response;
        Input {
            method,
            uri: Uri::from_static(uri),
            headers: check::map(&headers),
            upload,
            reads_upload,
            status,
            response_headers: check::map(&response_headers),
            response,
        }
    })
}
