//! When leases and ttls end.

use super::Clock;
use super::bench::{Bench, LONG, fresh_claim, fresh_key, record_of};
use super::endings::INCONCLUSIVE;
use crate::store::{Begin, Ownership, Store};

/// A lease ends when it was asked to: not earlier, not later, and not prolonged by those who ask.
pub async fn a_lease_ends_when_asked_for<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let lease = shortest_attempt(&clock);
    let (key, first, term) = bench.claimed_for(lease).await;
    let is_held = |found: &Begin| matches!(found, Begin::InProgress(fingerprint) if *fingerprint == first.fingerprint());
    let second = bench.must_end(&key, &term, is_held).await;
    bench
        .must_be_kept_off(&key, &first, "the owner of a lease that ended")
        .await;
    bench
        .must_be_held(&key, &second, "claimed as the lease ended")
        .await;
}

/// A renewed lease ends when its renewal asked for, counted from the renewal.
pub async fn a_renewed_lease_ends_when_asked_for<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    for lease in clock.attempts() {
        let (key, claim, first) = bench.claimed_for(lease).await;
        clock.sleep(lease / 2).await;
        let renew = bench.renew(&key, claim.owner(), lease);
        let (held, renewed) = clock.grant(lease, renew).await;
        if !first.lasted_until(clock.now()) {
            continue;
        }
        assert_eq!(
            held,
            Ownership::Held,
            "renew by the owner while the lease lasts"
        );
        let is_held = |found: &Begin| matches!(found, Begin::InProgress(_));
        bench.must_end(&key, &renewed, is_held).await;
        bench
            .must_be_kept_off(&key, &claim, "the owner of a lease that ended")
            .await;
        return;
    }
    panic!("{INCONCLUSIVE}");
}

/// A ttl ends when it was asked to, counted from the completion, and is not prolonged by replays.
pub async fn a_ttl_ends_when_asked_for<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let ttl = shortest_attempt(&clock);
    let (key, first) = bench.claimed().await;
    // If the ttl were counted from the claim, it would end too early.
    clock.sleep(ttl / 2).await;
    let record = record_of(&first);
    let complete = bench.complete(&key, first.owner(), &record, ttl);
    let (held, term) = clock.grant(ttl, complete).await;
    assert_eq!(held, Ownership::Held, "complete by the owner");
    let is_kept = |found: &Begin| matches!(found, Begin::Completed(found) if *found == record);
    let second = bench.must_end(&key, &term, is_kept).await;
    bench
        .must_be_held(&key, &second, "claimed as the ttl ended")
        .await;
}

/// A ttl is not prolonged by what the owner or a stranger tries on the completed key.
pub async fn a_ttl_is_not_prolonged_by_renew<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    for ttl in clock.attempts() {
        let (key, claim) = bench.claimed().await;
        let record = record_of(&claim);
        let complete = bench.complete(&key, claim.owner(), &record, ttl);
        let (_, term) = clock.grant(ttl, complete).await;
        let (stranger, what) = (fresh_claim(), "a completed key");
        if !(bench
            .must_be_kept_off_during(&term, &key, &claim, what)
            .await
            && bench
                .must_be_kept_off_during(&term, &key, &stranger, what)
                .await)
        {
            continue;
        }
        bench
            .must_end(&key, &term, |found| matches!(found, Begin::Completed(_)))
            .await;
        return;
    }
    panic!("{INCONCLUSIVE}");
}

/// A record outlives the lease of its claim.
pub async fn a_record_outlives_the_lease<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    for lease in clock.attempts() {
        let (key, claim, term) = bench.claimed_for(lease).await;
        let record = record_of(&claim);
        let held = bench.complete(&key, claim.owner(), &record, LONG).await;
        if !term.lasted_until(clock.now()) {
            continue;
        }
        assert_eq!(held, Ownership::Held, "complete while the lease lasts");
        term.over().await;
        bench
            .must_be_completed(&key, &record, "after the lease of its claim")
            .await;
        return;
    }
    panic!("{INCONCLUSIVE}");
}

/// A term belongs to its key: other keys may end earlier or later.
pub async fn each_key_ends_by_itself<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let (kept, _, record) = bench.completed().await;
    let (held, holder) = bench.claimed().await;
    let (key, claim) = (fresh_key(), fresh_claim());
    let lease = shortest_attempt(&clock);
    let (begun, term) = clock.grant(lease, bench.begin(&key, &claim, lease)).await;
    assert!(matches!(begun, Begin::Started), "absent: {begun:?}");
    bench
        .must_end(&key, &term, |found| matches!(found, Begin::InProgress(_)))
        .await;
    // Room may be given back a while later.
    clock.sleep(lease).await;
    bench
        .must_be_completed(&kept, &record, "after another key ended")
        .await;
    bench
        .must_be_held(&held, &holder, "after another key ended")
        .await;
}

fn shortest_attempt(clock: &Clock) -> std::time::Duration {
    clock.attempts().next().unwrap_or(LONG)
}
