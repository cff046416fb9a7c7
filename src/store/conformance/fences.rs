//! What becomes of a claim through somebody who does not hold it: nothing.

use super::Clock;
use super::bench::{Bench, LONG, fresh_claim, fresh_key, record_of};
use super::endings::INCONCLUSIVE;
use crate::store::{Claim, Ownership, Store};

/// Nobody holds an absent key, and neither `renew` nor `release` makes it present.
pub async fn an_absent_key_is_held_by_nobody<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let key = fresh_key();
    bench.must_not_hold(&key, &fresh_claim(), "absent").await;
    bench.must_be_absent(&key, "absent").await;
}

/// A stranger does not hold a key in progress, not even one with the same fingerprint.
pub async fn a_stranger_does_not_hold_a_key_in_progress<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let (key, claim) = bench.claimed().await;
    bench
        .must_be_kept_off(&key, &fresh_claim(), "a stranger")
        .await;
    let twin = Claim::new(fresh_claim().owner(), claim.fingerprint());
    bench
        .must_be_kept_off(&key, &twin, "a stranger with the same request")
        .await;
    bench
        .must_be_held(&key, &claim, "after a stranger tried")
        .await;
}

/// A stranger does not prolong a lease, which ends as if nobody had tried.
pub async fn a_stranger_does_not_prolong_a_lease<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    for lease in clock.attempts() {
        let (key, _, term) = bench.claimed_for(lease).await;
        let stranger = fresh_claim();
        let tried = bench.must_be_kept_off_during(&term, &key, &stranger, "a stranger");
        if !tried.await {
            continue;
        }
        term.over().await;
        bench
            .must_be_absent(&key, "after the lease that a stranger tried to prolong")
            .await;
        return;
    }
    panic!("{INCONCLUSIVE}");
}

/// A stranger does not hold a completed key, and its record stays.
pub async fn a_stranger_does_not_hold_a_completed_key<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let (key, _, record) = bench.completed().await;
    bench
        .must_be_kept_off(&key, &fresh_claim(), "a stranger")
        .await;
    bench
        .must_be_completed(&key, &record, "after a stranger tried")
        .await;
}

/// The owner of a lease that has ended does not hold the key, even while nobody else does.
///
/// Each step has a key of its own, since the first that is wrongly taken would hide the other.
pub async fn an_owner_does_not_hold_a_lease_that_ended<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let (key, claim) = bench.lost().await;
    let renewed = bench.renew(&key, claim.owner(), LONG).await;
    assert_eq!(renewed, Ownership::Lost, "renew after the lease ended");
    bench
        .must_be_absent(&key, "renew after the lease ended")
        .await;

    let (key, claim) = bench.lost().await;
    let released = bench.release(&key, claim.owner()).await;
    assert_eq!(released, Ownership::Lost, "release after the lease ended");
    bench
        .must_be_absent(&key, "release after the lease ended")
        .await;
}

/// The owner of a lease that was lost to another does not touch the other's claim or record.
pub async fn an_owner_does_not_hold_the_claim_that_followed<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let (key, first) = bench.lost().await;
    let second = fresh_claim();
    bench
        .must_start(&key, &second, "after the lease ended")
        .await;
    bench
        .must_be_kept_off(&key, &first, "the owner of a lost lease")
        .await;
    bench
        .must_be_in_progress(&key, &second, "after the first owner tried")
        .await;
    let record = record_of(&second);
    bench
        .must_complete(&key, &second, &record, "after the first owner tried")
        .await;
    bench
        .must_be_kept_off(&key, &first, "the owner of a lost lease")
        .await;
    bench
        .must_be_completed(&key, &record, "after the first owner tried again")
        .await;
}

/// An owner that has released a key does not touch the claim that followed.
pub async fn an_owner_that_released_does_not_hold_the_claim_that_followed<S: Store>(
    store: S,
    clock: Clock,
) {
    let bench = Bench::new(store, clock);
    let (key, first) = bench.claimed().await;
    let released = bench.release(&key, first.owner()).await;
    assert_eq!(released, Ownership::Held, "release by the owner");
    let second = fresh_claim();
    bench.must_start(&key, &second, "released").await;
    bench
        .must_be_kept_off(&key, &first, "an owner that has released")
        .await;
    bench
        .must_be_held(&key, &second, "after the first owner tried")
        .await;
}
