//! The binary form of claims and records in a store outside of this process.

use std::fmt;

use bytes::Bytes;

use super::super::{Claim, Fingerprint, Owner, Record, StoreError, StoreErrorKind};
#[cfg(feature = "zstd")]
use super::compression;
use super::compression::Compression;

/// What is under a key.
///
/// # Layout
///
/// | bytes | what |
/// |---|---|
/// | 1 | version of the layout: 1 |
/// | 1 | kind: `C` a claim, `R` a record, `Z` a compressed record |
/// | … | a claim: owner (16), fingerprint (32); a record: [`Record::as_bytes`]; a compressed one: length of the record (4, big-endian), and the record as a zstd frame |
/// | 4 | CRC-32 (IEEE) of all that comes before, big-endian |
///
/// All claims of an owner start with the same 18 bytes, so that a script in the store can recognise
/// its owner: see [`claim_prefix`].
#[derive(Debug)]
pub(crate) enum Entry {
    Claim(Claim),
    Record(Record),
}

impl Entry {
    /// Reads what is under a key, without copying a record.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Corrupt`] if the bytes are damaged, cut, or of an unknown version.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, StoreError> {
        // The checksum comes last in every version, so that damage is not taken for a version that
        // is not known yet.
        let end = bytes.len().checked_sub(CHECKSUM).ok_or(Damaged)?;
        if end < HEAD || bytes[end..] != checksum(&bytes[..end]) {
            return Err(Damaged.into());
        }
        if bytes[0] != VERSION {
            return Err(UnknownForm.into());
        }
        let payload = bytes.slice(HEAD..end);
        match bytes[1] {
            CLAIM => decode_claim(&payload).map(Self::Claim),
            RECORD => decode_record(payload).map(Self::Record),
            #[cfg(feature = "zstd")]
            COMPRESSED => decode_record(compression::expand(&payload)?).map(Self::Record),
            _ => Err(UnknownForm.into()),
        }
    }
}

/// Writes a claim.
pub(crate) fn encode_claim(claim: &Claim) -> [u8; CLAIM_LEN] {
    let mut bytes = [0; CLAIM_LEN];
    bytes[..PREFIX_LEN].copy_from_slice(&claim_prefix(claim.owner()));
    bytes[PREFIX_LEN..CLAIM_LEN - CHECKSUM].copy_from_slice(claim.fingerprint().as_bytes());
    let sum = checksum(&bytes[..CLAIM_LEN - CHECKSUM]);
    bytes[CLAIM_LEN - CHECKSUM..].copy_from_slice(&sum);
    bytes
}

/// Returns the bytes with which every claim of this owner starts, and nothing else.
pub(crate) fn claim_prefix(owner: Owner) -> [u8; PREFIX_LEN] {
    let mut bytes = [0; PREFIX_LEN];
    bytes[0] = VERSION;
    bytes[1] = CLAIM;
    bytes[HEAD..].copy_from_slice(owner.as_bytes());
    bytes
}

/// Writes a record.
pub(crate) fn encode_record(record: &Record, compression: Compression) -> Vec<u8> {
    let flat = record.as_bytes();
    match compression.of(flat) {
        Some(compressed) => encode(COMPRESSED, &compressed),
        None => encode(RECORD, flat),
    }
}

fn encode(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + payload.len() + CHECKSUM);
    bytes.extend_from_slice(&[VERSION, kind]);
    bytes.extend_from_slice(payload);
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

fn decode_record(flat: Bytes) -> Result<Record, StoreError> {
    Record::from_bytes(flat).map_err(corrupt)
}

fn decode_claim(payload: &[u8]) -> Result<Claim, StoreError> {
    let (owner, fingerprint) = payload.split_at_checked(16).ok_or(Damaged)?;
    let owner = owner.try_into().map_err(|_| Damaged)?;
    let fingerprint = fingerprint.try_into().map_err(|_| Damaged)?;
    Ok(Claim::new(
        Owner::from_bytes(owner),
        Fingerprint::from_bytes(fingerprint),
    ))
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    crc32fast::hash(bytes).to_be_bytes()
}

fn corrupt(why: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, why)
}

/// The bytes are not what this crate wrote.
#[derive(Debug)]
pub(super) struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes under the key are damaged, cut, or not of this crate")
    }
}

impl std::error::Error for Damaged {}

impl From<Damaged> for StoreError {
    fn from(why: Damaged) -> Self {
        corrupt(why)
    }
}

/// The bytes are whole, but of a form that this version of the crate can't read.
#[derive(Debug)]
struct UnknownForm;

impl fmt::Display for UnknownForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the bytes under the key were written by a newer version of this crate, or compressed, \
             which needs the feature zstd",
        )
    }
}

impl std::error::Error for UnknownForm {}

impl From<UnknownForm> for StoreError {
    fn from(why: UnknownForm) -> Self {
        corrupt(why)
    }
}

const VERSION: u8 = 1;
const CLAIM: u8 = b'C';
const RECORD: u8 = b'R';
const COMPRESSED: u8 = b'Z';

/// Length of version and kind.
const HEAD: usize = 1 + 1;

/// Length of the checksum at the end.
const CHECKSUM: usize = 4;

/// Length of what identifies an owner's claim.
pub(crate) const PREFIX_LEN: usize = HEAD + 16;

/// Length of a claim.
pub(crate) const CLAIM_LEN: usize = PREFIX_LEN + 32 + CHECKSUM;

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue, StatusCode};

    fn claim() -> Claim {
        Claim::new(
            Owner::from_bytes([0xa5; 16]),
            Fingerprint::from_bytes([0x5a; 32]),
        )
    }

    fn record(body: Option<&[u8]>) -> Record {
        let mut headers = HeaderMap::new();
        headers.append("content-type", HeaderValue::from_static("application/json"));
        headers.append("link", HeaderValue::from_static("</a>"));
        headers.append("link", HeaderValue::from_static("</b>"));
        let fingerprint = Fingerprint::from_bytes([7; 32]);
        Record::new(fingerprint, StatusCode::CREATED, &headers, body)
    }

    fn kind_of(bytes: impl Into<Bytes>) -> Option<StoreErrorKind> {
        Entry::decode(&bytes.into()).err().map(|error| error.kind())
    }

    #[test]
    fn claims_and_records_come_back_as_they_were() {
        let claim = claim();
        let read = Entry::decode(&encode_claim(&claim).to_vec().into()).expect("a whole claim");
        assert!(matches!(read, Entry::Claim(read) if read == claim));
        for body in [None, Some(&b""[..]), Some(&b"{\"id\":1}"[..])] {
            let record = record(body);
            let read = Entry::decode(&encode_record(&record, Compression::default()).into())
                .expect("a whole record");
            assert!(matches!(read, Entry::Record(read) if read == record));
        }
    }

    /// A version must read what older ones wrote for as long as a record lives, and what newer ones
    /// write while instances of both run side by side. So these files never change.
    #[test]
    fn the_form_is_that_of_the_golden_files() {
        let golden = include_bytes!("golden/claim-v1.bin");
        assert_eq!(&encode_claim(&claim())[..], golden);
        let golden = include_bytes!("golden/record-v1.bin");
        assert_eq!(
            encode_record(&record(Some(b"{\"id\":1}")), Compression::default()),
            golden
        );
    }

    #[test]
    fn any_damaged_or_missing_byte_reads_as_corrupt() {
        let corrupt = Some(StoreErrorKind::Corrupt);
        for whole in [
            encode_claim(&claim()).to_vec(),
            encode_record(&record(Some(b"body")), Compression::default()),
        ] {
            for at in 0..whole.len() {
                assert_eq!(kind_of(whole[..at].to_vec()), corrupt, "cut at {at}");
                for bit in 0..8 {
                    let mut bytes = whole.clone();
                    bytes[at] ^= 1 << bit;
                    assert_eq!(kind_of(bytes), corrupt, "bit {bit} of byte {at}");
                }
            }
        }
        assert_eq!(kind_of(&b"not ours at all"[..]), corrupt);
    }

    #[test]
    fn a_whole_entry_of_another_version_kind_or_length_reads_as_corrupt() {
        let corrupt = Some(StoreErrorKind::Corrupt);
        let sealed = |mut bytes: Vec<u8>| {
            let sum = checksum(&bytes);
            bytes.extend_from_slice(&sum);
            bytes
        };
        let mut newer = vec![VERSION + 1, RECORD];
        newer.extend_from_slice(record(None).as_bytes());
        assert_eq!(kind_of(sealed(newer)), corrupt);
        assert_eq!(kind_of(sealed(vec![VERSION, b'X', 0])), corrupt);
        assert_eq!(kind_of(sealed(vec![VERSION, CLAIM])), corrupt);
        assert_eq!(
            kind_of(sealed([&[VERSION, CLAIM][..], &[0; 49]].concat())),
            corrupt
        );
        assert_eq!(kind_of(sealed(vec![VERSION, RECORD])), corrupt);
    }

    #[test]
    fn only_a_claim_of_the_owner_starts_with_its_prefix() {
        let claim = claim();
        let prefix = claim_prefix(claim.owner());
        assert!(encode_claim(&claim).starts_with(&prefix));
        let other = Claim::new(Owner::new(), claim.fingerprint());
        assert!(!encode_claim(&other).starts_with(&prefix));
        assert!(!encode_record(&record(None), Compression::default()).starts_with(&prefix[..HEAD]));
    }

    #[cfg(feature = "zstd")]
    mod compressed {
        use super::*;

        fn json() -> Vec<u8> {
            br#"{"id":1,"state":"provisioning"},"#.repeat(100)
        }

        #[test]
        fn a_record_over_the_threshold_is_smaller_and_comes_back_as_it_was() {
            let record = record(Some(&json()));
            let len = record.as_bytes().len();
            let plain = encode_record(&record, Compression::over(len));
            let small = encode_record(&record, Compression::over(len - 1));
            assert!(small.len() * 2 < plain.len());
            for bytes in [plain, small] {
                let read = Entry::decode(&bytes.into()).expect("a whole record");
                assert!(matches!(read, Entry::Record(read) if read == record));
            }
        }

        #[test]
        fn a_record_that_does_not_get_smaller_is_left_as_it_is() {
            let tiny = record(None);
            let bytes = encode_record(&tiny, Compression::over(0));
            let read = Entry::decode(&bytes.clone().into()).expect("a whole record");
            assert!(matches!(read, Entry::Record(read) if read == tiny));
            assert!(bytes.len() <= encode_record(&tiny, Compression::default()).len());
        }

        /// Only read: versions of zstd may write other bytes.
        #[test]
        fn the_golden_file_is_read() {
            let golden = &include_bytes!("golden/record-v1-zstd.bin")[..];
            let read = Entry::decode(&Bytes::from_static(golden)).expect("a whole record");
            assert!(matches!(read, Entry::Record(read) if read == record(Some(&json()))));
        }

        #[test]
        fn a_wrong_length_or_frame_reads_as_corrupt_and_takes_no_room() {
            let whole = encode_record(&record(Some(&json())), Compression::over(0));
            let payload = &whole[HEAD..whole.len() - CHECKSUM];
            let len = u32::from_be_bytes(payload[..4].try_into().expect("four bytes"));
            let mut wrong = vec![payload[..3].to_vec(), payload[..4].to_vec()];
            for len in [0, len - 1, len + 1, u32::MAX] {
                wrong.push([&len.to_be_bytes()[..], &payload[4..]].concat());
            }
            wrong.push([&payload[..4], b"no frame"].concat());
            for payload in wrong {
                let bytes = encode(COMPRESSED, &payload);
                assert_eq!(kind_of(bytes), Some(StoreErrorKind::Corrupt));
            }
        }
    }

    #[cfg(not(feature = "zstd"))]
    #[test]
    fn a_compressed_record_reads_as_corrupt_without_the_feature() {
        let golden = &include_bytes!("golden/record-v1-zstd.bin")[..];
        assert_eq!(kind_of(golden), Some(StoreErrorKind::Corrupt));
    }
}
