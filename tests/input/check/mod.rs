//! What must hold for any input: shared by the property tests and the fuzz targets of `fuzz/`.
//!
//! Each module reads an input from text, so that a seed is readable, and checks what it means for
//! the layer. A check that does not hold panics.

pub mod caller;
mod exchange;
mod expected;
pub mod input;
pub mod keep;
pub mod key;
pub mod record;
pub mod request;
pub mod script;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Reads `name: value` lines, and leaves out what is no header field.
pub fn fields(lines: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
    let lines = lines.split(|byte| *byte == b'\n');
    let fields = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        Some((
            HeaderName::from_bytes(name).ok()?,
            HeaderValue::from_bytes(value).ok()?,
        ))
    });
    // A map takes 24,576 names at most, and far fewer say as much.
    fields.take(64).collect()
}

pub fn map(fields: &[(HeaderName, HeaderValue)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(name, value.clone());
    }
    map
}

/// Splits at the first empty line.
pub fn split(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.windows(2).position(|pair| pair == b"\n\n");
    end.map_or((text, &[]), |end| (&text[..end], &text[end + 2..]))
}
