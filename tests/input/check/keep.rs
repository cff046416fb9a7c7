//! Which responses are kept: compared with the rule written down a second time, in another way.

use http::{HeaderName, HeaderValue, Response, StatusCode};
use tower_idempotency::is_kept_by_default;

type Fields = Vec<(HeaderName, HeaderValue)>;

/// The status, and behind it the header fields.
pub fn parse(text: &[u8]) -> Option<(StatusCode, Fields)> {
    let end = text
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(text.len());
    let status = StatusCode::from_bytes(&text[..end]).ok()?;
    Some((
        status,
        super::fields(text.get(end + 1..).unwrap_or_default()),
    ))
}

pub fn check(status: StatusCode, fields: &Fields) {
    let kept = is_kept(status, fields);
    assert_eq!(kept, expected(status, fields), "{status} {fields:?}");
    // Other fields, the case of letters, and parameters make no difference.
    let mut changed = vec![(
        HeaderName::from_static("x-other"),
        HeaderValue::from_static("attachment; text/event-stream"),
    )];
    changed.extend(fields.iter().map(|(name, value)| {
        let mut value = value.as_bytes().to_ascii_uppercase();
        value.extend_from_slice(b"; q=\"1;attachment\"");
        (
            name.clone(),
            HeaderValue::from_bytes(&value).expect("a value"),
        )
    }));
    assert_eq!(is_kept(status, &changed), kept, "{status} {changed:?}");
}

fn is_kept(status: StatusCode, fields: &Fields) -> bool {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = super::map(fields);
    is_kept_by_default(&response.into_parts().0)
}

fn expected(status: StatusCode, fields: &Fields) -> bool {
    let essences = |name: &'static str| {
        let values = fields.iter().filter(move |(field, _)| field == name);
        values.map(|(_, value)| {
            // A byte outside ASCII can't be in a name that is kept.
            let value: String = value
                .as_bytes()
                .iter()
                .map(|byte| char::from(*byte))
                .collect();
            let essence = value.split(';').next().unwrap_or_default();
            essence.trim_matches([' ', '\t']).to_ascii_lowercase()
        })
    };
    let has = |name: &str| fields.iter().any(|(field, _)| field == name);
    let says_again = match status.as_u16() {
        307 | 308 | 401 | 407 | 408 | 417 | 421 | 425 | 426 | 429 => true,
        400..500 => has("retry-after"),
        number => matches!(number / 100, 1 | 5),
    };
    let is_attachment = essences("content-disposition").any(|kind| kind == "attachment");
    let is_of_an_api =
        essences("content-type")
            .next()
            .is_none_or(|essence| match essence.split_once('/') {
                Some(("text", subtype)) => subtype != "event-stream",
                Some((kind, subtype)) => is_format_of_an_api(kind, subtype),
                None => false,
            });
    !says_again && !is_attachment && is_of_an_api
}

fn is_format_of_an_api(kind: &str, subtype: &str) -> bool {
    // A stream's protocol stands in front of the first `+`, and a language behind the last.
    let (name, language) = match (subtype.split_once('+'), subtype.rsplit_once('+')) {
        (Some((name, _)), Some((_, language))) => (name, Some(language)),
        _ => (subtype, None),
    };
    if matches!(name, "grpc" | "connect" | "stream") || name.starts_with("grpc-") {
        return false;
    }
    match language {
        Some(language) => LANGUAGES.split(' ').any(|other| other == language),
        None => kind == "application" && NAMES.split_whitespace().any(|other| other == name),
    }
}

const LANGUAGES: &str = "json xml yaml cbor msgpack protobuf jwt";

const NAMES: &str = "
    json x-json json-rpc x-amz-json-1.0 x-amz-json-1.1
    xml x-xml
    x-www-form-urlencoded
    javascript x-javascript ecmascript x-ecmascript
    yaml x-yaml vnd.yaml
    cbor x-cbor
    msgpack x-msgpack vnd.msgpack
    protobuf x-protobuf x-google-protobuf vnd.google.protobuf vnd.kubernetes.protobuf proto
    jwt
";
