//! The caller digest: two requests have one caller if, and only if, their credentials are equal.

use http::{HeaderName, HeaderValue};
use tower_idempotency::CallerId;

type Fields = Vec<(HeaderName, HeaderValue)>;

/// The header fields of two requests, with an empty line between them.
pub fn parse(text: &[u8]) -> (Fields, Fields) {
    let (one, other) = super::split(text);
    (super::fields(one), super::fields(other))
}

pub fn check(one: &Fields, other: &Fields) {
    let callers = [one, other].map(|fields| CallerId::from_credentials(&super::map(fields)));
    let credentials = [one, other].map(credentials);
    assert_eq!(callers[0] == callers[1], credentials[0] == credentials[1]);
    for (caller, credentials) in callers.iter().zip(&credentials) {
        assert_eq!(
            caller.is_some(),
            credentials.iter().any(|values| !values.is_empty())
        );
    }
}

/// The values of each credential header, in order. The order between the two does not count.
fn credentials(fields: &Fields) -> [Vec<&HeaderValue>; 2] {
    ["authorization", "x-api-key"].map(|name| {
        let fields = fields.iter().filter(|(field, _)| field == name);
        fields.map(|(_, value)| value).collect()
    })
}
