//! Keys are distinct, whatever their bytes.

use super::Clock;
use super::bench::{Bench, LONG, fresh_claim, fresh_key, record_of};
use crate::store::{Begin, Ownership, RecordKey, Store};

/// Keys that differ in one bit are distinct: in progress, completed, and released.
pub async fn keys_that_differ_in_one_bit_are_apart<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    for base in [*fresh_key().as_bytes(), letters(), zeros()] {
        let mut claims = Vec::new();
        for key in neighbours(base) {
            let claim = fresh_claim();
            let begun = bench.begin(&key, &claim, LONG).await;
            let is_apart = matches!(begun, Begin::Started);
            assert!(is_apart, "{key}: its neighbour is taken for it: {begun:?}");
            claims.push((key, claim, record_of(&claim)));
        }
        for (key, claim, record) in &claims {
            bench
                .must_be_in_progress(key, claim, "among its neighbours")
                .await;
            bench
                .must_complete(key, claim, record, "among its neighbours")
                .await;
        }
        for (key, _, record) in &claims {
            bench
                .must_be_completed(key, record, "among its neighbours")
                .await;
        }
    }
}

/// The release of a key leaves its neighbours alone.
pub async fn a_release_leaves_other_keys_alone<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let mut claims = Vec::new();
    for key in neighbours(*fresh_key().as_bytes()).step_by(16) {
        let claim = fresh_claim();
        bench.must_start(&key, &claim, "a neighbour of a key").await;
        claims.push((key, claim));
    }
    let (released, kept): (Vec<_>, Vec<_>) =
        (0..).zip(claims).partition(|(index, _)| index % 2 == 0);
    for (_, (key, claim)) in &released {
        assert_eq!(
            bench.release(key, claim.owner()).await,
            Ownership::Held,
            "release"
        );
    }
    for (_, (key, claim)) in &kept {
        bench
            .must_be_held(key, claim, "after its neighbours were released")
            .await;
    }
    for (_, (key, _)) in &released {
        bench.must_be_absent(key, "released").await;
    }
}

/// Returns a key, and the 256 that differ from it in one bit.
fn neighbours(base: [u8; 32]) -> impl Iterator<Item = RecordKey> {
    let flipped = (0..256).map(move |bit| {
        let mut bytes = base;
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    std::iter::once(base)
        .chain(flipped)
        .map(RecordKey::from_bytes)
}

/// Returns a fresh key of letters, whose case is one bit.
fn letters() -> [u8; 32] {
    fresh_key().as_bytes().map(|byte| b'a' + byte % 26)
}

/// Returns a fresh key that ends in zeros, which a C string can't hold.
fn zeros() -> [u8; 32] {
    let mut bytes = *fresh_key().as_bytes();
    bytes[16..].fill(0);
    bytes
}
