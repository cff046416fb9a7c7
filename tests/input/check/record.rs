//! The flat form of a record: what is read from it is what was put in, and nothing else is read.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use tower_idempotency::store::{Fingerprint, Record};

type Fields = Vec<(HeaderName, HeaderValue)>;

/// Any bytes: they are no record, or one that holds them all.
pub fn check_bytes(bytes: &[u8]) {
    let Ok(record) = Record::from_bytes(Bytes::copy_from_slice(bytes)) else {
        return;
    };
    assert_eq!(record.as_bytes(), bytes);
    let fields: Fields = record.fields().collect();
    let lengths = fields
        .iter()
        .map(|(name, value)| 6 + name.as_str().len() + value.len());
    let body = record.body();
    let body_len = body.as_ref().map_or(0, Bytes::len);
    assert_eq!(40 + lengths.sum::<usize>() + body_len, bytes.len());
    check(
        record.fingerprint(),
        record.status(),
        &fields,
        body.as_deref(),
    );
}

/// Any response: its record comes back from its bytes.
pub fn check(fingerprint: Fingerprint, status: StatusCode, fields: &Fields, body: Option<&[u8]>) {
    let pairs = || fields.iter().map(|(name, value)| (name, value));
    let record = Record::new(fingerprint, status, pairs(), body);
    let back = Record::from_bytes(record.as_bytes().clone()).expect("a whole record");
    assert_eq!(back, record);
    assert_eq!(back.fingerprint(), fingerprint);
    assert_eq!(back.status(), status);
    let back_fields: Fields = back.fields().collect();
    assert_eq!(&back_fields, fields);
    // Equal values can differ in this.
    assert_eq!(sensitive(&back_fields), sensitive(fields));
    assert_eq!(back.body().as_deref(), body);
    assert_eq!(
        back.without_body(),
        Record::new(fingerprint, status, pairs(), None)
    );
    // The debug form shows sizes, whatever is in the record.
    assert!(format!("{back:?}").len() < 200);
}

fn sensitive(fields: &Fields) -> Vec<bool> {
    let fields = fields.iter();
    fields.map(|(_, value)| value.is_sensitive()).collect()
}
