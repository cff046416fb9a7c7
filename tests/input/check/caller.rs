//! The caller digest: two requests have one caller if, and only if, their credentials are equal.
//!
//! What a credential is stands here a second time, in another way.

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
    let credentials = [one, other].map(|fields| credentials(fields));
    for (caller, credentials) in callers.iter().zip(&credentials) {
        assert_eq!(caller.is_some(), credentials.is_some(), "{credentials:?}");
    }
    assert_eq!(callers[0] == callers[1], credentials[0] == credentials[1]);
}

/// The values of each credential header, in order; the order between the two does not count. `None`
/// if nobody can be identified by them.
pub fn credentials(fields: &[(HeaderName, HeaderValue)]) -> Option<[Vec<&HeaderValue>; 2]> {
    let of = |name: &'static str| {
        let fields = fields.iter().filter(move |(field, _)| field == name);
        fields.map(|(_, value)| value)
    };
    let mut authorization = Vec::new();
    for value in of("authorization") {
        match kind(value) {
            Kind::Nothing => {}
            Kind::Once => return None,
            Kind::Lasts => authorization.push(value),
        }
    }
    let keys: Vec<_> = of("x-api-key")
        .filter(|value| !words(value).is_empty())
        .collect();
    (!authorization.is_empty() || !keys.is_empty()).then_some([authorization, keys])
}

enum Kind {
    Nothing,
    /// Good for one request or connection.
    Once,
    Lasts,
}

/// A value as text, split at its blanks. A byte outside ASCII is in no name.
fn words(value: &HeaderValue) -> Vec<String> {
    let bytes = value.as_bytes().iter();
    let text: String = bytes.map(|byte| char::from(*byte)).collect();
    let words = text.split([' ', '\t']).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

fn kind(value: &HeaderValue) -> Kind {
    let words = words(value);
    let Some((scheme, rest)) = words.split_first() else {
        return Kind::Nothing;
    };
    let scheme = scheme.to_ascii_lowercase();
    let is_in = |names: &str| names.split_whitespace().any(|name| name == scheme);
    if rest.is_empty() {
        return if is_in(LASTING) || is_in(ONCE) {
            Kind::Nothing
        } else if scheme.starts_with("bce-auth-v1/") || scheme.starts_with("q-sign-algorithm=") {
            Kind::Once
        } else {
            Kind::Lasts
        };
    }
    match &*scheme {
        "basic" if rest.len() == 1 && ["", "Og"].contains(&rest[0].trim_end_matches('=')) => {
            Kind::Nothing
        }
        "oauth" if rest.iter().any(|word| word.contains("oauth_")) => Kind::Once,
        _ if is_in(LASTING) => Kind::Lasts,
        _ if is_in(ONCE) || scheme.split(['-', '_']).any(is_algorithm) => Kind::Once,
        _ => Kind::Lasts,
    }
}

fn is_algorithm(word: &str) -> bool {
    let starts = "hmac sha1 sha2 sha3 sha5 rsa ecdsa ed25519 scram";
    starts.split(' ').any(|start| word.starts_with(start))
}

const LASTING: &str = "
    basic bearer dpop gnap oauth vapid
    token jwt key apikey api-key client-id bot ssws geniekey splunk snowflake
    authsub googlelogin sharedaccesssignature
";

const ONCE: &str = "
    concealed digest hoba mutual negotiate privatetoken scram-sha-1 scram-sha-256
    hawk mac signature ntlm kerberos wsse hmac hmac-sha256
    aws aws3 aws3-https aws4-hmac-sha256 aws4-ecdsa-p256-sha256
    goog1 goog4-hmac-sha256 goog4-rsa-sha256 sharedkey sharedkeylite eg1-hmac-sha256
    acs acs3-hmac-sha256 acs3-hmac-sm3 acs3-rsa-sha256 oss obs qiniu tc3-hmac-sha256
    apiauth gcs iyzws iyzwsv2 bitso
";
