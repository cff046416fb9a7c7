//! The name under which a store keeps the record of a key.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::caller::CallerId;
use crate::key::IdempotencyKey;

/// The name of a record in a store: one SHA-256 over the caller and the idempotency key.
///
/// It holds no secret, has a fixed size, and always contains the caller: a store can't be asked
/// with a key that belongs to nobody. `Display` writes it as 64 hexadecimal digits.
///
/// # Examples
///
/// An operator finds the record of a customer's request:
///
/// ```
/// use http::HeaderMap;
/// use tower_idempotency::{CallerId, IdempotencyKey, RecordKey};
///
/// let mut credentials = HeaderMap::new();
/// credentials.insert("x-api-key", "secret".parse()?);
/// let caller = CallerId::from_credentials(&credentials).expect("the header is there");
/// let key = RecordKey::new(&caller, &IdempotencyKey::new("order-4711")?);
/// assert_eq!(key.to_string().len(), 64);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey([u8; 32]);

impl RecordKey {
    /// Creates the name of the record for this caller and this key.
    pub fn new(caller: &CallerId, key: &IdempotencyKey) -> Self {
        let key = key.as_str();
        let mut hash = Sha256::new();
        // A caller has a fixed length; with the key's length the parts can't run into each other.
        hash.update(caller.as_bytes());
        hash.update((key.len() as u64).to_be_bytes());
        hash.update(key);
        Self(hash.finalize().into())
    }

    /// Creates a name from bytes that [`RecordKey::as_bytes`] gave.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_and_the_key_each_make_a_difference() {
        let of = |caller: &str, key: &str| {
            let key = IdempotencyKey::new(key).expect("a valid key");
            RecordKey::new(&CallerId::new(caller), &key)
        };
        assert_eq!(of("a", "1"), of("a", "1"));
        assert_ne!(of("a", "1"), of("b", "1"));
        assert_ne!(of("a", "1"), of("a", "2"));
        assert_ne!(of("a", "12"), of("a1", "2"));
    }

    #[test]
    fn the_name_of_a_known_pair_stays_the_same_over_versions() {
        let key = IdempotencyKey::new("order-4711").expect("a valid key");
        assert_eq!(
            RecordKey::new(&CallerId::new("alice"), &key).to_string(),
            "fe547a621b9cfdbb60c1f9ff9a83b68c46f1dcccb6e85c0c747bfe311802a1f6"
        );
    }
}
