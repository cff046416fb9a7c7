//! Compression of records in stores outside of this process.

#[cfg(feature = "zstd")]
use bytes::Bytes;

#[cfg(feature = "zstd")]
use super::super::StoreError;
#[cfg(feature = "zstd")]
use super::codec::Damaged;

/// Which records a store compresses. Default: none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Compression {
    #[cfg(feature = "zstd")]
    over: Option<usize>,
}

#[cfg(feature = "zstd")]
impl Compression {
    /// Compresses records of more than this many bytes.
    pub(crate) fn over(bytes: usize) -> Self {
        Self { over: Some(bytes) }
    }

    /// Returns the compressed form of a record if it is to be compressed and is smaller that way.
    pub(super) fn of(self, flat: &[u8]) -> Option<Vec<u8>> {
        if flat.len() <= self.over? || flat.len() > MAX_LEN {
            return None;
        }
        let mut compressed = u32::try_from(flat.len()).ok()?.to_be_bytes().to_vec();
        compressed.extend(zstd::bulk::compress(flat, LEVEL).ok()?);
        (compressed.len() < flat.len()).then_some(compressed)
    }
}

#[cfg(not(feature = "zstd"))]
impl Compression {
    pub(super) fn of(self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// Reads what [`Compression::of`] wrote. Takes no more memory than the length that is stated, and
/// refuses one above [`MAX_LEN`].
#[cfg(feature = "zstd")]
pub(super) fn expand(compressed: &[u8]) -> Result<Bytes, StoreError> {
    let (len, frame) = compressed.split_at_checked(4).ok_or(Damaged)?;
    let len = u32::from_be_bytes([len[0], len[1], len[2], len[3]]) as usize;
    if len > MAX_LEN {
        return Err(Damaged.into());
    }
    match zstd::bulk::decompress(frame, len) {
        Ok(flat) if flat.len() == len => Ok(flat.into()),
        _ => Err(Damaged.into()),
    }
}

/// The fastest level: 64 KiB of JSON become 4.6 times smaller in 86 µs.
#[cfg(feature = "zstd")]
const LEVEL: i32 = 1;

/// The largest record that is compressed: 64 MiB.
#[cfg(feature = "zstd")]
const MAX_LEN: usize = 64 * 1024 * 1024;
