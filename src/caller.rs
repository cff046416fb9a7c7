//! Who sends a request: the scope within which an idempotency key is unique.

use std::fmt;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName};
use sha2::{Digest, Sha256};

/// The hashed identity of a caller, within which idempotency keys are unique.
///
/// Two callers that pick the same key never meet. The value can only be built hashed (SHA-256), so
/// that neither the store nor a log ever holds a token.
///
/// # Examples
///
/// A caller that an authentication layer has put into the request's extensions:
///
/// ```
/// use tower_idempotency::{CallerId, IdempotencyLayer, MemoryStore};
///
/// #[derive(Clone)]
/// struct UserId(u64);
///
/// let layer = IdempotencyLayer::new(MemoryStore::new()).caller(|parts| {
///     let user = parts.extensions.get::<UserId>()?;
///     Some(CallerId::new(user.0.to_be_bytes()))
/// });
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallerId([u8; 32]);

impl CallerId {
    /// Creates the identity of whoever is named by these bytes, by hashing them.
    pub fn new(identity: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(identity.as_ref()).into())
    }

    /// Creates the identity of whoever holds the credentials in these headers: the layer's default.
    ///
    /// The credentials are the values of `Authorization` and `X-Api-Key`; if neither is there, the
    /// result is `None`. Each value is hashed with its header's name and its length, so that no two
    /// combinations meet.
    pub fn from_credentials(headers: &HeaderMap) -> Option<Self> {
        let mut hash = None;
        for (tag, name) in [(b'A', &AUTHORIZATION), (b'K', &X_API_KEY)] {
            for value in headers.get_all(name) {
                let hash = hash.get_or_insert_with(Sha256::new);
                let mut prefix = [tag; 9];
                prefix[1..].copy_from_slice(&(value.len() as u64).to_be_bytes());
                hash.update(prefix);
                hash.update(value.as_bytes());
            }
        }
        hash.map(|hash| Self(hash.finalize().into()))
    }

    /// Returns the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for CallerId {
    /// Shows the first four bytes: enough to tell callers apart, too little to test guesses against.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "CallerId({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

static X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(fields: &[(&'static str, &'static str)]) -> Option<CallerId> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().expect("a valid value"));
        }
        CallerId::from_credentials(&headers)
    }

    #[test]
    fn credentials_with_the_same_bytes_in_other_places_are_other_callers() {
        let all = [
            caller(&[("authorization", "ab")]),
            caller(&[("x-api-key", "ab")]),
            caller(&[("authorization", "a"), ("x-api-key", "b")]),
            caller(&[("authorization", "b"), ("x-api-key", "a")]),
            caller(&[("authorization", "a"), ("authorization", "b")]),
            caller(&[("x-api-key", "a"), ("x-api-key", "b")]),
            caller(&[("authorization", "")]),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(one.is_some());
            assert!(all[i + 1..].iter().all(|other| other != one), "row {i}");
        }
    }

    #[test]
    fn other_headers_say_nothing_of_the_caller() {
        assert_eq!(caller(&[("cookie", "session=1"), ("host", "a")]), None);
        assert_eq!(
            caller(&[("x-api-key", "k"), ("cookie", "session=1")]),
            caller(&[("x-api-key", "k")])
        );
    }
}
