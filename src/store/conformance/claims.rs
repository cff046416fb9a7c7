//! What `begin` answers for each state of a key.

use super::Clock;
use super::bench::{Bench, fresh_claim, fresh_key, record_of};
use crate::store::Store;

/// A claim of an absent key starts, and the claim is held.
pub async fn a_claim_of_an_absent_key_starts<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let (key, claim) = (fresh_key(), fresh_claim());
    bench.must_start(&key, &claim, "absent").await;
    bench
        .must_be_held(&key, &claim, "after it was claimed")
        .await;
}

/// A claim of a key in progress is answered with the holder's fingerprint, and changes nothing.
pub async fn a_claim_of_a_key_in_progress_reports_that<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let (key, claim) = bench.claimed().await;
    for _ in 0..3 {
        bench.must_be_in_progress(&key, &claim, "claimed").await;
    }
    bench
        .must_be_held(&key, &claim, "after others asked for it")
        .await;
}

/// A claim of a completed key is answered with its record, however often.
pub async fn a_claim_of_a_completed_key_gets_its_record<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let (key, _, record) = bench.completed().await;
    for _ in 0..3 {
        bench.must_be_completed(&key, &record, "completed").await;
    }
}

/// A claim after a lease has ended starts anew: nothing of the first one is left.
pub async fn a_claim_after_the_lease_ended_starts<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let (key, _) = bench.lost().await;
    let second = fresh_claim();
    bench
        .must_start(&key, &second, "after the lease ended")
        .await;
    bench
        .must_be_held(&key, &second, "claimed after a lease ended")
        .await;
}

/// A claim after a ttl has ended starts anew: nothing of the record is left.
pub async fn a_claim_after_the_ttl_ended_starts<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let (key, first) = bench.claimed().await;
    let (record, ttl) = (record_of(&first), clock.shortest());
    let complete = bench.complete(&key, first.owner(), &record, ttl);
    let (_, term) = clock.grant(ttl, complete).await;
    term.over().await;
    let second = fresh_claim();
    bench.must_start(&key, &second, "after the ttl ended").await;
    bench
        .must_be_held(&key, &second, "claimed after a ttl ended")
        .await;
}
