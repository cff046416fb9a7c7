//! What a value of `Authorization` says of who sent it.

/// What a value of `Authorization` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credential {
    /// No credential: kept for one, it would make all strangers one caller.
    Absent,
    /// A credential that a retry sends again.
    Lasting,
    /// A signature or a proof that each request or connection makes anew: a retry has another one.
    MadeAnew,
}

impl Credential {
    pub(super) fn read(value: &[u8]) -> Self {
        let value = value.trim_ascii();
        let Some(end) = value.iter().position(u8::is_ascii_whitespace) else {
            return Self::read_lone_word(value);
        };
        let (scheme, rest) = (&value[..end], value[end..].trim_ascii_start());
        if is_one_of(LASTING, scheme) {
            if scheme.eq_ignore_ascii_case(b"Basic") && is_nobody(rest) {
                Self::Absent
            } else if scheme.eq_ignore_ascii_case(b"OAuth") && is_oauth_1(rest) {
                Self::MadeAnew
            } else {
                Self::Lasting
            }
        } else if is_one_of(MADE_ANEW, scheme) || names_an_algorithm(scheme) {
            Self::MadeAnew
        } else {
            Self::Lasting
        }
    }

    fn read_lone_word(word: &[u8]) -> Self {
        if word.is_empty() || is_one_of(LASTING, word) || is_one_of(MADE_ANEW, word) {
            Self::Absent
        } else if SIGNED_WORDS.iter().any(|start| starts_with(word, start)) {
            Self::MadeAnew
        } else {
            // A raw token.
            Self::Lasting
        }
    }
}

/// Recognises the Base64 of an empty user and password (`:`), or of nothing.
fn is_nobody(base64: &[u8]) -> bool {
    let padding = base64.iter().rev().take_while(|byte| **byte == b'=');
    matches!(&base64[..base64.len() - padding.count()], b"" | b"Og")
}

/// Recognises a signature of OAuth 1: some APIs have a lasting token behind the same scheme.
fn is_oauth_1(parameters: &[u8]) -> bool {
    parameters.windows(6).any(|part| part == b"oauth_")
}

/// Recognises a scheme that is named after its signature, such as `V2-HMAC-SHA256`.
fn names_an_algorithm(scheme: &[u8]) -> bool {
    let mut parts = scheme.split(|byte| matches!(byte, b'-' | b'_'));
    parts.any(|part| ALGORITHMS.iter().any(|start| starts_with(part, start)))
}

fn is_one_of(names: &[&str], name: &[u8]) -> bool {
    let mut names = names.iter();
    names.any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

fn starts_with(text: &[u8], start: &str) -> bool {
    let text = text.get(..start.len());
    text.is_some_and(|text| text.eq_ignore_ascii_case(start.as_bytes()))
}

/// Schemes of a credential that lasts, the usual ones first.
const LASTING: &[&str] = &[
    "Bearer",
    "Basic",
    "Token",
    "ApiKey",
    "Api-Key",
    "AuthSub",
    "Bot",
    "Client-ID",
    "DPoP",
    "GenieKey",
    "GNAP",
    "GoogleLogin",
    "JWT",
    "Key",
    "OAuth",
    "SharedAccessSignature",
    "Snowflake",
    "Splunk",
    "SSWS",
    "vapid",
];

/// Schemes of a credential that is made anew; the tests have the reason for each.
const MADE_ANEW: &[&str] = &[
    "ACS",
    "ACS3-HMAC-SHA256",
    "ACS3-HMAC-SM3",
    "ACS3-RSA-SHA256",
    "APIAuth",
    "AWS",
    "AWS3",
    "AWS3-HTTPS",
    "AWS4-ECDSA-P256-SHA256",
    "AWS4-HMAC-SHA256",
    "Bitso",
    "Concealed",
    "Digest",
    "EG1-HMAC-SHA256",
    "GCS",
    "GOOG1",
    "GOOG4-HMAC-SHA256",
    "GOOG4-RSA-SHA256",
    "Hawk",
    "HMAC",
    "HMAC-SHA256",
    "HOBA",
    "IYZWS",
    "IYZWSv2",
    "Kerberos",
    "MAC",
    "Mutual",
    "Negotiate",
    "NTLM",
    "OBS",
    "OSS",
    "PrivateToken",
    "Qiniu",
    "SCRAM-SHA-1",
    "SCRAM-SHA-256",
    "SharedKey",
    "SharedKeyLite",
    "Signature",
    "TC3-HMAC-SHA256",
    "WSSE",
];

/// What a part of a scheme's name starts with where it names how to sign.
const ALGORITHMS: &[&str] = &[
    "HMAC", "SHA1", "SHA2", "SHA3", "SHA5", "RSA", "ECDSA", "Ed25519", "SCRAM",
];

/// What a signature without a scheme starts with.
const SIGNED_WORDS: &[&str] = &["bce-auth-v1/", "q-sign-algorithm="];

#[cfg(test)]
mod tests;
