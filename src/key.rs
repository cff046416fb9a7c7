//! The idempotency key: what the client sends to say that two requests are one.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// A validated idempotency key: 1 to 255 printable ASCII characters.
///
/// The layer reads it from the `Idempotency-Key` header of the [IETF draft] and puts it into the
/// extensions of a request that it guards, where the handler finds it, for example to pass it on to
/// a payment provider. The value is opaque and compared byte for byte: quotes are part of the key.
///
/// Its `Debug` form shows only the length, so that a key does not end up in a log by accident.
///
/// [IETF draft]: https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
///
/// # Examples
///
/// ```
/// use tower_idempotency::IdempotencyKey;
///
/// let key = IdempotencyKey::new("8e03978e-40d5-43dd-bc93-6894a57f9324")?;
/// assert_eq!(key.as_str().len(), 36);
/// assert!(IdempotencyKey::new("").is_err());
/// # Ok::<(), tower_idempotency::InvalidKey>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(
    // Checked in `check`. A `HeaderValue` shares the request's buffer, so a key costs no allocation.
    HeaderValue,
);

impl IdempotencyKey {
    /// The greatest length of a key, in bytes: 255.
    pub const MAX_LEN: usize = 255;

    /// Creates a key from text.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidKey`] if the text is empty, longer than 255 bytes, or holds a byte outside
    /// `0x20` to `0x7E`.
    pub fn new(key: impl AsRef<str>) -> Result<Self, InvalidKey> {
        let key = key.as_ref();
        check(key.as_bytes())?;
        let value = HeaderValue::from_str(key).map_err(|_| InvalidKey::NotPrintableAscii)?;
        Ok(Self(value))
    }

    /// Returns the key as text.
    pub fn as_str(&self) -> &str {
        // `check` lets only 0x20 to 0x7E pass, all of which `to_str` accepts.
        self.0.to_str().expect("a checked key is ASCII")
    }

    /// Reads the key from a request's headers: `None` if the header is not there.
    pub(crate) fn from_headers(
        headers: &HeaderMap,
        name: &HeaderName,
    ) -> Result<Option<Self>, InvalidKey> {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(InvalidKey::Repeated);
        }
        check(value.as_bytes())?;
        Ok(Some(Self(value.clone())))
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdempotencyKey({} bytes)", self.0.len())
    }
}

impl TryFrom<&str> for IdempotencyKey {
    type Error = InvalidKey;

    fn try_from(key: &str) -> Result<Self, InvalidKey> {
        Self::new(key)
    }
}

impl std::str::FromStr for IdempotencyKey {
    type Err = InvalidKey;

    fn from_str(key: &str) -> Result<Self, InvalidKey> {
        Self::new(key)
    }
}

/// Why a text or a header is no [`IdempotencyKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidKey {
    /// The key has no characters.
    Empty,
    /// The key has more than [`IdempotencyKey::MAX_LEN`] bytes.
    TooLong,
    /// The key holds a byte outside `0x20` to `0x7E`.
    NotPrintableAscii,
    /// The request has more than one field line with a key.
    Repeated,
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the idempotency key is empty",
            Self::TooLong => "the idempotency key is longer than 255 bytes",
            Self::NotPrintableAscii => "the idempotency key has a byte that is not printable ASCII",
            Self::Repeated => "the request has more than one idempotency key",
        })
    }
}

impl std::error::Error for InvalidKey {}

fn check(key: &[u8]) -> Result<(), InvalidKey> {
    if key.is_empty() {
        Err(InvalidKey::Empty)
    } else if key.len() > IdempotencyKey::MAX_LEN {
        Err(InvalidKey::TooLong)
    } else if key.iter().any(|byte| !(0x20..=0x7E).contains(byte)) {
        Err(InvalidKey::NotPrintableAscii)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_single_byte_is_taken_or_refused_by_its_range() {
        for byte in 0..=u8::MAX {
            let taken = check(&[byte]).is_ok();
            assert_eq!(taken, (0x20..=0x7E).contains(&byte), "byte {byte:#04x}");
        }
    }

    #[test]
    fn length_is_taken_from_1_to_255() {
        for (length, expected) in [
            (0, Err(InvalidKey::Empty)),
            (1, Ok(())),
            (255, Ok(())),
            (256, Err(InvalidKey::TooLong)),
        ] {
            assert_eq!(check(&vec![b'k'; length]), expected, "length {length}");
        }
    }

    #[test]
    fn debug_does_not_show_the_key() {
        let key = IdempotencyKey::new("order-4711").expect("a valid key");
        assert_eq!(format!("{key:?}"), "IdempotencyKey(10 bytes)");
    }
}
