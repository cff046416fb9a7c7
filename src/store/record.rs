//! A kept response, in one flat buffer.

use std::fmt;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use super::Fingerprint;

/// A kept response: status, header fields and body, with the fingerprint of its request.
///
/// A record is one flat buffer ([`Record::as_bytes`]), which any store can keep as it is; its
/// layout is versioned and documented below. A clone shares the buffer.
///
/// The layer makes it for [`Store::complete`](super::Store::complete), and reads it for a replay.
///
/// # Layout
///
/// | bytes | what |
/// |---|---|
/// | 1 | version of the layout: 1 |
/// | 1 | 1 if the body was kept, 0 if it was left out |
/// | 2 | status code |
/// | 32 | fingerprint |
/// | 4 | length of the header fields in bytes |
/// | … | header fields, in order: length of the name (2), length of the value (4), name, value |
/// | … | body, to the end |
///
/// Numbers are big-endian. The highest bit of a value's length says that the value is
/// [sensitive](HeaderValue::is_sensitive); the other 31 bits are the length.
#[derive(Clone, PartialEq, Eq)]
pub struct Record(
    // Built by `new` or checked by `from_bytes`, so that the accessors can rely on the layout.
    Bytes,
);

impl Record {
    /// Creates a record. A body of `None` says that it was left out.
    ///
    /// The header fields are kept in the order given, repeated names and values that are not UTF-8
    /// included, and with them which values are [sensitive](HeaderValue::is_sensitive).
    pub fn new<'a>(
        fingerprint: Fingerprint,
        status: StatusCode,
        fields: impl IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)> + Clone,
        body: Option<&[u8]>,
    ) -> Self {
        // Gone through twice: a record lives for a day, and takes no more room than it needs.
        let sizes = fields.clone().into_iter();
        let sizes = sizes.map(|(name, value)| FIELD + name.as_str().len() + value.len());
        let fields_len: usize = sizes.sum();
        let body_len = body.map_or(0, <[u8]>::len);

        let mut flat = Vec::with_capacity(HEAD + fields_len + body_len);
        flat.push(VERSION);
        flat.push(u8::from(body.is_some()));
        flat.extend_from_slice(&status.as_u16().to_be_bytes());
        flat.extend_from_slice(fingerprint.as_bytes());
        flat.extend_from_slice(&(fields_len as u32).to_be_bytes());
        for (name, value) in fields {
            // `HeaderName` is limited to 64 KiB, and a whole header block is far below 2 GiB.
            flat.extend_from_slice(&(name.as_str().len() as u16).to_be_bytes());
            let flag = if value.is_sensitive() { SENSITIVE } else { 0 };
            flat.extend_from_slice(&(value.len() as u32 | flag).to_be_bytes());
            flat.extend_from_slice(name.as_str().as_bytes());
            flat.extend_from_slice(value.as_bytes());
        }
        flat.extend_from_slice(body.unwrap_or_default());
        Self(flat.into())
    }

    /// Creates a record from bytes that [`Record::as_bytes`] gave, without copying them.
    ///
    /// # Errors
    ///
    /// Returns [`MalformedRecord`] if the bytes are not of the layout above.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, MalformedRecord> {
        let flat = &bytes[..];
        let version = *flat.first().ok_or(MalformedRecord)?;
        let fields_len = flat.get(HEAD - 4..HEAD).ok_or(MalformedRecord)?;
        // Checked, since the sum overflows where addresses have 32 bits.
        let body_start = HEAD.checked_add(be_u32(fields_len) as usize);
        let body_start = body_start.ok_or(MalformedRecord)?;
        if version != VERSION || flat[1] > 1 || body_start > flat.len() {
            return Err(MalformedRecord);
        }
        if flat[1] == 0 && body_start != flat.len() {
            return Err(MalformedRecord);
        }
        StatusCode::from_u16(be_u16(&flat[2..4])).map_err(|_| MalformedRecord)?;

        let record = Self(bytes);
        let mut at = HEAD;
        while at < body_start {
            let field = record.field(at, body_start).ok_or(MalformedRecord)?;
            at = field.end;
        }
        Ok(record)
    }

    /// Returns the flat form.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Returns the fingerprint of the request that this is the response to.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(&self.0[4..36]);
        Fingerprint::from_bytes(bytes)
    }

    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        // Taken from a `StatusCode` by `new`, and checked by `from_bytes`.
        StatusCode::from_u16(be_u16(&self.0[2..4])).unwrap_or_default()
    }

    /// Returns the header fields in order. The values share the record's buffer.
    pub fn fields(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
        let end = self.body_start();
        let mut at = HEAD;
        std::iter::from_fn(move || {
            let field = (at < end).then(|| self.field(at, end))??;
            at = field.end;
            Some((field.name, field.value))
        })
    }

    /// Returns the body, which shares the record's buffer, or `None` if it was left out.
    pub fn body(&self) -> Option<Bytes> {
        (self.0[1] == 1).then(|| self.0.slice(self.body_start()..))
    }

    /// Copies the record into a buffer of its own.
    #[cfg(feature = "memory")]
    pub(crate) fn copied(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// Returns this record without its body.
    #[must_use]
    pub fn without_body(&self) -> Self {
        let mut flat = self.0[..self.body_start()].to_vec();
        flat[1] = 0;
        Self(flat.into())
    }

    fn body_start(&self) -> usize {
        HEAD + be_u32(&self.0[HEAD - 4..HEAD]) as usize
    }

    /// Reads the header field at this place, if there is a whole and valid one before the end.
    fn field(&self, at: usize, end: usize) -> Option<Field> {
        let lengths = self.0.get(at..at + FIELD)?;
        let name_at = at + FIELD;
        let value_at = name_at + be_u16(&lengths[..2]) as usize;
        let value_len = be_u32(&lengths[2..]);
        let field_end = value_at.checked_add((value_len & !SENSITIVE) as usize)?;
        if field_end > end {
            return None;
        }
        let value = self.0.slice(value_at..field_end);
        let mut value = HeaderValue::from_maybe_shared(value).ok()?;
        value.set_sensitive(value_len & SENSITIVE != 0);
        Some(Field {
            name: HeaderName::from_bytes(&self.0[name_at..value_at]).ok()?,
            value,
            end: field_end,
        })
    }
}

impl fmt::Debug for Record {
    /// Shows sizes only: headers and body may hold what does not belong into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("status", &self.status().as_u16())
            .field("fingerprint", &self.fingerprint())
            .field("fields", &self.fields().count())
            .field("body", &self.body().map(|body| body.len()))
            .finish()
    }
}

struct Field {
    name: HeaderName,
    value: HeaderValue,
    end: usize,
}

/// Bytes that are no [`Record`]: damaged, or of a version of the layout that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedRecord;

impl fmt::Display for MalformedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes are damaged or of an unknown version of the record layout")
    }
}

impl std::error::Error for MalformedRecord {}

/// Reads a big-endian number from two bytes.
fn be_u16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// Reads a big-endian number from four bytes.
fn be_u32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

const VERSION: u8 = 1;

/// Length of what comes before the header fields.
const HEAD: usize = 1 + 1 + 2 + 32 + 4;

/// Length of what comes before a field's name.
const FIELD: usize = 2 + 4;

/// The bit of a value's length that says that the value is sensitive.
const SENSITIVE: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn sample(body: Option<&[u8]>) -> (HeaderMap, Record) {
        let mut headers = HeaderMap::new();
        headers.append("link", HeaderValue::from_static("</a>, </b>"));
        headers.append("link", HeaderValue::from_static("</c>"));
        headers.append(
            "x-latin",
            HeaderValue::from_bytes(b"caf\xe9").expect("a value"),
        );
        headers.append("x-empty", HeaderValue::from_static(""));
        for secret in ["", "a secret"] {
            let mut secret = HeaderValue::from_static(secret);
            secret.set_sensitive(true);
            headers.append("x-secret", secret);
        }
        let record = Record::new(
            Fingerprint::from_bytes([7; 32]),
            StatusCode::CREATED,
            &headers,
            body,
        );
        (headers, record)
    }

    #[test]
    fn a_record_comes_back_from_its_bytes() {
        for body in [None, Some(&b""[..]), Some(&b"\x00\xff body"[..])] {
            let (headers, record) = sample(body);
            let record = Record::from_bytes(record.as_bytes().clone()).expect("a whole record");
            assert_eq!(record.status(), StatusCode::CREATED);
            assert_eq!(record.fingerprint(), Fingerprint::from_bytes([7; 32]));
            assert_eq!(record.body().as_deref(), body);
            assert_eq!(record.fields().collect::<Vec<_>>().len(), 6);
            for (name, value) in record.fields() {
                assert_eq!(value.is_sensitive(), name == "x-secret", "{name}");
            }
            let restored: HeaderMap = record.fields().fold(HeaderMap::new(), |mut map, (n, v)| {
                map.append(n, v);
                map
            });
            assert_eq!(restored, headers);
        }
    }

    #[test]
    fn a_record_cut_anywhere_before_its_body_is_malformed() {
        let (_, record) = sample(Some(b""));
        let flat = record.as_bytes();
        for end in 0..flat.len() {
            assert_eq!(
                Record::from_bytes(flat.slice(..end)),
                Err(MalformedRecord),
                "cut at {end}"
            );
        }
    }

    #[test]
    fn a_damaged_byte_never_panics_and_another_version_is_malformed() {
        let (_, record) = sample(Some(b"body"));
        for at in 0..record.as_bytes().len() {
            for bit in 0..8 {
                let mut flat = record.as_bytes().to_vec();
                flat[at] ^= 1 << bit;
                if let Ok(read) = Record::from_bytes(flat.into()) {
                    assert_ne!(at, 0, "another version was read");
                    let _ = (read.status(), read.fields().count(), read.body());
                }
            }
        }
    }

    /// One field, `a: bc`, whose value has this length and flag in the record's bytes.
    fn with_value_length(length: u32) -> Result<Record, MalformedRecord> {
        let mut flat = vec![VERSION, 1, 0, 200];
        flat.extend_from_slice(&[7; 32]);
        flat.extend_from_slice(&[0, 0, 0, 9, 0, 1]);
        flat.extend_from_slice(&length.to_be_bytes());
        flat.extend_from_slice(b"abc and the body");
        Record::from_bytes(flat.into())
    }

    #[test]
    fn the_highest_bit_of_a_length_says_that_the_value_is_sensitive() {
        for is_sensitive in [false, true] {
            let mut value = HeaderValue::from_static("bc");
            value.set_sensitive(is_sensitive);
            let fields = [(&HeaderName::from_static("a"), &value)];
            let fingerprint = Fingerprint::from_bytes([7; 32]);
            let record = Record::new(fingerprint, StatusCode::OK, fields, Some(b" and the body"));
            let length = if is_sensitive { 0x8000_0002 } else { 2 };
            assert_eq!(with_value_length(length), Ok(record.clone()));
            let (_, read) = record.fields().next().expect("a field");
            assert_eq!((read.is_sensitive(), read), (is_sensitive, value));
        }
    }

    #[test]
    fn a_wrong_length_is_malformed_with_and_without_the_highest_bit() {
        for length in [0, 1, 3, 4, 16, 0xff, 0xffff, 0x4000_0002, 0x7fff_ffff] {
            for flag in [0, SENSITIVE] {
                let read = with_value_length(length | flag);
                assert_eq!(read, Err(MalformedRecord), "{:#x}", length | flag);
            }
        }
    }

    #[test]
    fn a_record_can_lose_its_body() {
        let (headers, record) = sample(Some(b"body"));
        let record = record.without_body();
        assert_eq!(record.body(), None);
        assert_eq!(record.fields().count(), headers.len());
        let sensitive = record.fields().filter(|(_, value)| value.is_sensitive());
        assert_eq!(sensitive.count(), 2);
        assert_eq!(Record::from_bytes(record.as_bytes().clone()), Ok(record));
    }
}
