//! Claims and records for the tests.

use http::{HeaderMap, StatusCode};
use tower_idempotency::StoreError;
use tower_idempotency::store::{
    Begin, Claim, Fingerprint, Owner, Record, RecordKey, StoreErrorKind,
};

pub const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

pub fn key(n: u32) -> RecordKey {
    let mut bytes = [0xab; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    RecordKey::from_bytes(bytes)
}

pub fn claim() -> Claim {
    Claim::new(Owner::new(), Fingerprint::from_bytes([1; 32]))
}

pub fn record(body: &[u8]) -> Record {
    let (fingerprint, headers) = (Fingerprint::from_bytes([1; 32]), HeaderMap::new());
    Record::new(fingerprint, StatusCode::CREATED, &headers, Some(body))
}

#[allow(clippy::needless_pass_by_value, reason = "an answer is looked at once")]
pub fn must_start(begun: Result<Begin, StoreError>) {
    assert!(matches!(begun, Ok(Begin::Started)), "{begun:?}");
}

pub fn must_be_corrupt(begun: Result<Begin, StoreError>) {
    let kind = begun.map(drop).map_err(|error| error.kind());
    assert_eq!(kind, Err(StoreErrorKind::Corrupt));
}
