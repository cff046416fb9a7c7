//! Who sends a request: the scope within which an idempotency key is unique.

mod authorization;

use std::fmt;

use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};

use self::authorization::Credential;

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
    /// The credentials are the values of `Authorization` and `X-Api-Key`. Each is hashed with its
    /// header's name and its length, so that no two combinations meet. The result is `None`
    ///
    /// - **if there is no credential.** A header without one counts as absent: empty, blank, a scheme
    ///   with nothing behind it (`Bearer`), or an empty user and password (`Basic Og==`). It would
    ///   make all strangers one caller;
    /// - **if `Authorization` is made anew for each request or connection**, since each retry would
    ///   be another caller: the signatures of AWS and of other clouds and payment services, HTTP
    ///   Signature, OAuth 1, Hawk, Digest, Negotiate, NTLM, SCRAM and their like. That holds even
    ///   beside an `X-Api-Key`, which may be that of an application and not of its user.
    ///
    /// A token that lasts identifies its holder for as long as it lasts: see
    /// [`IdempotencyLayer::caller`](crate::IdempotencyLayer::caller) for what follows from that.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
    /// use tower_idempotency::CallerId;
    ///
    /// let caller = |credential| {
    ///     let value = HeaderValue::from_static(credential);
    ///     CallerId::from_credentials(&HeaderMap::from_iter([(AUTHORIZATION, value)]))
    /// };
    /// assert!(caller("Bearer alice").is_some());
    /// assert_ne!(caller("Bearer alice"), caller("Bearer bob"));
    /// assert_eq!(caller("Bearer"), None);
    /// assert_eq!(caller("Digest username=\"alice\", nc=00000001"), None);
    /// ```
    pub fn from_credentials(headers: &HeaderMap) -> Option<Self> {
        let mut hash = None;
        for value in headers.get_all(AUTHORIZATION) {
            match Credential::read(value.as_bytes()) {
                Credential::Absent => {}
                Credential::Lasting => add(&mut hash, b'A', value),
                Credential::MadeAnew => return None,
            }
        }
        for value in headers.get_all(&X_API_KEY) {
            if !value.as_bytes().trim_ascii().is_empty() {
                add(&mut hash, b'K', value);
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

/// Adds a credential to the hash of a caller, tagged by its header. Records live on over an upgrade,
/// so this never changes.
fn add(hash: &mut Option<Sha256>, tag: u8, value: &HeaderValue) {
    let hash = hash.get_or_insert_with(Sha256::new);
    let mut prefix = [tag; 9];
    prefix[1..].copy_from_slice(&(value.len() as u64).to_be_bytes());
    hash.update(prefix);
    hash.update(value.as_bytes());
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
            caller(&[("authorization", "ab"), ("x-api-key", "ab")]),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(one.is_some());
            assert!(all[i + 1..].iter().all(|other| other != one), "row {i}");
        }
    }

    #[test]
    fn a_header_without_a_credential_counts_as_absent() {
        const NOTHING: [&str; 6] = ["", " ", "\t", "Bearer", "basic ", "Basic Og=="];
        let key = caller(&[("x-api-key", "k")]);
        let bearer = caller(&[("authorization", "Bearer t")]);
        for nothing in NOTHING {
            assert_eq!(caller(&[("authorization", nothing)]), None, "{nothing:?}");
            let beside = [("authorization", nothing), ("x-api-key", "k")];
            assert_eq!(caller(&beside), key, "{nothing:?}");
            let repeated = [("authorization", nothing), ("authorization", "Bearer t")];
            assert_eq!(caller(&repeated), bearer, "{nothing:?}");
        }
        for nothing in ["", " ", "\t "] {
            assert_eq!(caller(&[("x-api-key", nothing)]), None, "{nothing:?}");
            let beside = [("x-api-key", nothing), ("authorization", "Bearer t")];
            assert_eq!(caller(&beside), bearer, "{nothing:?}");
            let repeated = [("x-api-key", nothing), ("x-api-key", "k")];
            assert_eq!(caller(&repeated), key, "{nothing:?}");
        }
        // `X-Api-Key` has no schemes: whatever is in it is a key.
        assert!(caller(&[("x-api-key", "Bearer")]).is_some());
    }

    #[test]
    fn a_credential_that_is_made_anew_identifies_nobody_whatever_is_beside_it() {
        let signed = (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=a, Signature=b",
        );
        for others in [
            &[][..],
            &[("x-api-key", "k")],
            &[("authorization", "Bearer t")],
            &[("authorization", "Bearer t"), ("x-api-key", "k")],
        ] {
            let fields = [&[signed], others].concat();
            assert_eq!(caller(&fields), None, "{fields:?}");
            let fields = [others, &[signed]].concat();
            assert_eq!(caller(&fields), None, "{fields:?}");
        }
    }

    /// The records of a caller are found by this hash: it never changes.
    #[test]
    fn the_hash_of_a_credential_is_what_it_always_was() {
        for (fields, hash) in [
            (
                &[("authorization", "Bearer abc")][..],
                "dce2ce8f4f2debef1dcd364300dcadbf77e7dde9ea8c8c80b832aabdf57a0520",
            ),
            (
                &[("x-api-key", "secret")],
                "c0df29311acac3516ca5b638f840db78d00341c7b46e17c0f4fdaa40a2c2bfd3",
            ),
            (
                &[("x-api-key", "k"), ("authorization", "Basic dXNlcjpwYXNz")],
                "ca9ba122168deb18413386da93f0279c2171eceffea01d278217421ab7fc9fd2",
            ),
        ] {
            let caller = caller(fields).expect("a credential");
            let hex: String = caller.0.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, hash, "{fields:?}");
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
