//! A record comes back as it was given.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use super::Clock;
use super::bench::{Bench, LONG, fresh_claim, fresh_key, long_body};
use crate::store::{Begin, Claim, Fingerprint, Owner, Record, Store};

/// A body comes back byte for byte: none, empty, with every byte there is, and of 1 MiB.
pub async fn a_body_comes_back_byte_for_byte<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let every_byte: Vec<u8> = (0..=255).collect();
    let long = long_body();
    let bodies: [(&str, Option<&[u8]>); 10] = [
        ("no body", None),
        ("an empty body", Some(b"")),
        ("0x00", Some(b"\x00")),
        ("0xFF", Some(b"\xff")),
        ("0x00 inside", Some(b"before\x00after")),
        ("line ends", Some(b"\r\na\r\n\r\nb\n")),
        ("spaces", Some(b" \t ")),
        ("half a character", Some(b"caf\xc3")),
        ("every byte", Some(&every_byte)),
        ("1 MiB", Some(&long)),
    ];
    for (what, body) in bodies {
        let claim = fresh_claim();
        let record = Record::new(claim.fingerprint(), StatusCode::OK, [], body);
        comes_back(&bench, &claim, &record, what).await;
    }
}

/// Header fields come back in order: repeated ones, 64 of them, empty and non-UTF-8 values.
pub async fn header_fields_come_back_in_order<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let many: Vec<_> = (0..64)
        .map(|n| {
            (
                format!("x-field-{}", 63 - n),
                format!("value {n}").into_bytes(),
            )
        })
        .collect();
    // What a value may hold (RFC 9110, section 5.5): visible characters, space, tab, 0x80 to 0xFF.
    let every_byte: Vec<u8> = (0..=255)
        .filter(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..))
        .collect();
    let field = |name: &str, value: &[u8]| (name.to_owned(), value.to_owned());
    let lists = [
        ("no fields", vec![]),
        ("64 fields", many),
        (
            "repeated names, apart and side by side",
            vec![
                field("link", b"</a>"),
                field("vary", b"accept"),
                field("link", b"</b>, </c>"),
                field("link", b"</a>"),
            ],
        ),
        (
            "values of any byte",
            vec![
                field("x-every", &every_byte),
                field("x-empty", b""),
                field("x-latin", b"caf\xe9"),
                field("x-long", &[b'v'; 8192]),
            ],
        ),
    ];
    for (what, list) in lists {
        let claim = fresh_claim();
        let list: Vec<_> = list.into_iter().map(parsed).collect();
        let fields = list.iter().map(|(name, value)| (name, value));
        let record = Record::new(claim.fingerprint(), StatusCode::OK, fields, Some(b"body"));
        comes_back(&bench, &claim, &record, what).await;
    }
}

/// Every status from 100 to 999 comes back.
pub async fn every_status_comes_back<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    for status in 100..1000 {
        let status = StatusCode::from_u16(status).expect("a status has three digits");
        let claim = fresh_claim();
        let record = Record::new(claim.fingerprint(), status, [], Some(b""));
        comes_back(&bench, &claim, &record, status.as_str()).await;
    }
}

/// A fingerprint comes back as it was given, while in progress and after, whatever its bytes.
pub async fn a_fingerprint_comes_back_as_given<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let rising = std::array::from_fn(|at| at as u8);
    let falling = std::array::from_fn(|at| !(at as u8));
    for bytes in [[0; 32], [0xff; 32], [b' '; 32], rising, falling] {
        let claim = Claim::new(Owner::new(), Fingerprint::from_bytes(bytes));
        let record = Record::new(claim.fingerprint(), StatusCode::OK, [], None);
        comes_back(&bench, &claim, &record, "a fingerprint").await;
    }
}

/// A lease of a millisecond and a ttl of a year work, and owners that differ in one bit are
/// distinct.
pub async fn extreme_terms_and_tokens_are_taken<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    for bytes in [[0; 16], [0xff; 16], std::array::from_fn(|at| at as u8)] {
        let owner = Owner::from_bytes(bytes);
        let (key, claim) = (fresh_key(), Claim::new(owner, fresh_claim().fingerprint()));
        bench.must_start(&key, &claim, "a token of any bytes").await;
        let mut stranger = bytes;
        stranger[15] ^= 1;
        let stranger = Claim::new(Owner::from_bytes(stranger), claim.fingerprint());
        bench
            .must_be_kept_off(&key, &stranger, "a token that differs in one bit")
            .await;
        bench
            .must_be_held(&key, &claim, "a token of any bytes")
            .await;
    }
    let (key, claim) = (fresh_key(), fresh_claim());
    let begun = bench.begin(&key, &claim, Duration::from_millis(1)).await;
    assert!(
        matches!(begun, Begin::Started),
        "a lease of 1 ms: {begun:?}"
    );
    let (key, claim) = (fresh_key(), fresh_claim());
    let begun = bench.begin(&key, &claim, YEAR).await;
    assert!(
        matches!(begun, Begin::Started),
        "a lease of a year: {begun:?}"
    );
    let released = bench.release(&key, claim.owner()).await;
    assert_eq!(released, crate::store::Ownership::Held, "a lease of a year");
    bench.must_start(&key, &claim, "released").await;
    let record = Record::new(claim.fingerprint(), StatusCode::OK, [], Some(b"a year"));
    let completed = bench.complete(&key, claim.owner(), &record, YEAR).await;
    assert_eq!(completed, crate::store::Ownership::Held, "a ttl of a year");
    bench
        .must_be_completed(&key, &record, "a ttl of a year")
        .await;
}

async fn comes_back<S: Store>(bench: &Bench<S>, claim: &Claim, record: &Record, what: &str) {
    let key = fresh_key();
    let begun = bench.begin(&key, claim, LONG).await;
    assert!(matches!(begun, Begin::Started), "{what}: {begun:?}");
    bench.must_be_in_progress(&key, claim, what).await;
    bench.must_complete(&key, claim, record, what).await;
    bench.must_be_completed(&key, record, what).await;
}

fn parsed((name, value): (String, Vec<u8>)) -> (HeaderName, HeaderValue) {
    let name = HeaderName::try_from(name).expect("a name is of letters");
    let value = HeaderValue::try_from(value).expect("a value holds no control characters");
    (name, value)
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
