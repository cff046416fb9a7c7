//! A completion that comes late is kept, unless another owner or a record has the key by then.

use super::Clock;
use super::bench::{Bench, fresh_claim, fresh_key, record_of};
use super::endings::INCONCLUSIVE;
use crate::store::{Begin, Ownership, Store};

/// `complete` of a key that nobody has claimed keeps the record, since the claim may have been lost
/// on its way.
pub async fn complete_of_an_absent_key_keeps_the_record<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let (key, claim) = (fresh_key(), fresh_claim());
    let record = record_of(&claim);
    bench.must_complete(&key, &claim, &record, "absent").await;
    bench.must_be_completed(&key, &record, "absent").await;
}

/// `complete` by the owner keeps the record after its lease has ended.
pub async fn complete_after_the_lease_ended_keeps_the_record<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let (key, claim) = bench.lost().await;
    let record = record_of(&claim);
    let what = "after the lease ended";
    bench.must_complete(&key, &claim, &record, what).await;
    bench.must_be_completed(&key, &record, what).await;
}

/// `complete` keeps the record after another's lease has ended.
pub async fn complete_after_the_lease_of_another_ended_keeps_the_record<S: Store>(
    store: S,
    clock: Clock,
) {
    let bench = Bench::new(store, clock);
    let (key, _) = bench.lost().await;
    let claim = fresh_claim();
    let record = record_of(&claim);
    let what = "after the lease of another ended";
    bench.must_complete(&key, &claim, &record, what).await;
    bench.must_be_completed(&key, &record, what).await;
}

/// `complete` keeps the record after the ttl of the last one has ended.
pub async fn complete_after_the_ttl_ended_keeps_the_record<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let (key, _) = bench.ended().await;
    let claim = fresh_claim();
    let record = record_of(&claim);
    let what = "after the ttl ended";
    bench.must_complete(&key, &claim, &record, what).await;
    bench.must_be_completed(&key, &record, what).await;
}

/// `complete` of a released key keeps the record, by its last owner or another.
pub async fn complete_of_a_released_key_keeps_the_record<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    for by_another in [false, true] {
        let (key, claim) = bench.claimed().await;
        let released = bench.release(&key, claim.owner()).await;
        assert_eq!(released, Ownership::Held, "release by the owner");
        let claim = if by_another { fresh_claim() } else { claim };
        let record = record_of(&claim);
        bench.must_complete(&key, &claim, &record, "released").await;
        bench.must_be_completed(&key, &record, "released").await;
    }
}

/// A late record is a record like any other: nobody holds its key, it is not replaced, and its ttl
/// ends when it was asked to, neither earlier nor later.
pub async fn a_late_record_ends_when_asked_for<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    for had_a_claim in [false, true] {
        let mut is_conclusive = false;
        for ttl in clock.attempts() {
            let (key, claim) = match had_a_claim {
                true => bench.lost().await,
                false => (fresh_key(), fresh_claim()),
            };
            let record = record_of(&claim);
            let complete = bench.complete(&key, claim.owner(), &record, ttl);
            let (held, term) = clock.grant(ttl, complete).await;
            assert_eq!(held, Ownership::Held, "complete of an absent key");
            let (stranger, what) = (fresh_claim(), "a late record");
            if !(bench
                .must_be_kept_off_during(&term, &key, &claim, what)
                .await
                && bench
                    .must_be_kept_off_during(&term, &key, &stranger, what)
                    .await)
            {
                continue;
            }
            let is_kept =
                |found: &Begin| matches!(found, Begin::Completed(found) if *found == record);
            bench.must_end(&key, &term, is_kept).await;
            is_conclusive = true;
            break;
        }
        assert!(is_conclusive, "{INCONCLUSIVE}");
    }
}
