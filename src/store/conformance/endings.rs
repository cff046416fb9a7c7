//! What becomes of a claim through its own owner.

use super::Clock;
use super::bench::{Bench, LONG, fresh_claim, record_of};
use crate::store::{Ownership, Store};

/// `complete` by the owner keeps the record.
pub async fn complete_by_the_owner_keeps_the_record<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let (key, claim) = bench.claimed().await;
    let record = record_of(&claim);
    bench.must_complete(&key, &claim, &record, "claimed").await;
    bench.must_be_completed(&key, &record, "completed").await;
}

/// `renew` by the owner lets the claim outlast its first lease, however often it is called.
pub async fn renew_by_the_owner_prolongs_the_lease<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    'attempts: for lease in clock.attempts() {
        let (key, claim, first) = bench.claimed_for(lease).await;
        let mut term = first;
        for _ in 0..3 {
            clock.sleep(lease / 2).await;
            let renew = bench.renew(&key, claim.owner(), lease);
            let (held, renewed) = clock.grant(lease, renew).await;
            if !term.lasted_until(clock.now()) {
                continue 'attempts;
            }
            assert_eq!(
                held,
                Ownership::Held,
                "renew by the owner while the lease lasts"
            );
            term = renewed;
        }
        let held = bench.renew(&key, claim.owner(), LONG).await;
        if !term.lasted_until(clock.now()) {
            continue;
        }
        assert_eq!(
            held,
            Ownership::Held,
            "renew by the owner while the lease lasts"
        );
        term.over().await;
        bench
            .must_be_held(&key, &claim, "after the lease before the last renewal")
            .await;
        return;
    }
    panic!("{INCONCLUSIVE}");
}

/// `release` by the owner makes the key absent: another claim starts, and is held.
pub async fn release_by_the_owner_frees_the_key<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let (key, first) = bench.claimed().await;
    let released = bench.release(&key, first.owner()).await;
    assert_eq!(released, Ownership::Held, "release by the owner");
    let second = fresh_claim();
    bench.must_start(&key, &second, "released").await;
    bench
        .must_be_held(&key, &second, "claimed after a release")
        .await;
}

/// A completed key is not in progress: its owner's second `complete`, `renew` and `release` are
/// lost, and the first record stays.
pub async fn a_completed_key_is_not_held_by_its_owner<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let (key, claim, record) = bench.completed().await;
    let mut other = record_of(&claim);
    for what in ["complete twice", "complete without a body"] {
        let completed = bench.complete(&key, claim.owner(), &other, LONG).await;
        assert_eq!(completed, Ownership::Lost, "{what}");
        bench.must_be_completed(&key, &record, what).await;
        other = record.without_body();
    }
    let renewed = bench.renew(&key, claim.owner(), LONG).await;
    assert_eq!(renewed, Ownership::Lost, "renew of a completed key");
    bench
        .must_be_completed(&key, &record, "renew of a completed key")
        .await;
    let released = bench.release(&key, claim.owner()).await;
    assert_eq!(released, Ownership::Lost, "release of a completed key");
    bench
        .must_be_completed(&key, &record, "release of a completed key")
        .await;
}

/// A released key is not in progress: its last owner's `renew` and second `release` are lost, and
/// the key stays absent.
pub async fn a_released_key_is_not_held_by_its_owner<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let (key, claim) = bench.claimed().await;
    let released = bench.release(&key, claim.owner()).await;
    assert_eq!(released, Ownership::Held, "release by the owner");
    bench.must_not_hold(&key, &claim, "released").await;
    bench.must_be_absent(&key, "released").await;
}

pub(super) const INCONCLUSIVE: &str =
    "this case could not end within any lease: the store takes minutes to answer";
