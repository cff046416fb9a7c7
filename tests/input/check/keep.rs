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
    let says_not_now = matches!(status.as_u16(), 100..200 | 401 | 408 | 425 | 429 | 500..600);
    let is_attachment = essences("content-disposition").any(|kind| kind == "attachment");
    let is_text = essences("content-type").next().is_none_or(|essence| {
        let Some((kind, subtype)) = essence.split_once('/') else {
            return false;
        };
        match (kind, subtype) {
            ("text", "event-stream") => false,
            ("text", _) => true,
            (
                "application",
                "json"
                | "xml"
                | "x-www-form-urlencoded"
                | "javascript"
                | "x-javascript"
                | "ecmascript",
            ) => true,
            (_, subtype) => subtype.ends_with("+json") || subtype.ends_with("+xml"),
        }
    });
    !says_not_now && !is_attachment && is_text
}
