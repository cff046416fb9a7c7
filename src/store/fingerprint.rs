//! What distinguishes two requests under one key.

use std::fmt;

use http::{Method, Uri};
use sha2::{Digest, Sha256};

/// The idempotency fingerprint of a request: a SHA-256 over what must be equal in a retry.
///
/// By default that is the method and the target (path and query). A key that comes again with
/// another fingerprint is refused with 422, as the IETF draft asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Creates the fingerprint of a request with this method and target.
    pub fn new(method: &Method, uri: &Uri) -> Self {
        Self::of_target(
            method,
            uri.path_and_query().map_or("/", |target| target.as_str()),
        )
    }

    /// Creates the fingerprint of a request with this method, and what counts as its target.
    pub fn of_target(method: &Method, target: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(method.as_str());
        // A method is a token (RFC 9110, section 9.1) and holds no space, so a space separates
        // the two.
        hash.update(b" ");
        hash.update(target);
        Self(hash.finalize().into())
    }

    /// Creates a fingerprint from bytes that [`Fingerprint::as_bytes`] gave.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Fingerprint({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_path_and_query_each_make_a_difference_and_the_authority_none() {
        let of =
            |method: &Method, uri: &'static str| Fingerprint::new(method, &Uri::from_static(uri));
        let base = of(&Method::POST, "/vms?region=a");
        assert_ne!(base, of(&Method::PUT, "/vms?region=a"));
        assert_ne!(base, of(&Method::POST, "/disks?region=a"));
        assert_ne!(base, of(&Method::POST, "/vms?region=b"));
        assert_ne!(base, of(&Method::POST, "/vms"));
        assert_eq!(base, of(&Method::POST, "http://api.example/vms?region=a"));
    }
}
