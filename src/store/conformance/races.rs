//! Each step is atomic, however many are taken at the same time.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::Clock;
use super::bench::{Bench, LONG, fresh_claim, fresh_key, record_of};
use crate::store::{Begin, Claim, Ownership, RecordKey, Store};

/// Of 64 concurrent claims of an absent key exactly one starts, 200 times.
pub async fn exactly_one_of_64_concurrent_claims_starts<S: Store>(store: S, clock: Clock) {
    let bench = Arc::new(Bench::new(store, clock));
    for _ in 0..200 {
        exactly_one_starts(&bench, fresh_key()).await;
    }
}

/// Of 64 concurrent claims after a lease has ended exactly one starts, 50 times.
pub async fn exactly_one_concurrent_claim_starts_after_a_lease<S: Store>(store: S, clock: Clock) {
    let bench = Arc::new(Bench::new(store, clock));
    let mut ended = Vec::new();
    for _ in 0..50 {
        ended.push(bench.claimed_for(clock.shortest()).await);
    }
    for (key, _, lease) in ended {
        lease.over().await;
        exactly_one_starts(&bench, key).await;
    }
}

/// Of 64 concurrent claims after a ttl has ended exactly one starts, 50 times.
pub async fn exactly_one_concurrent_claim_starts_after_a_ttl<S: Store>(store: S, clock: Clock) {
    let bench = Arc::new(Bench::new(store, clock));
    let mut ended = Vec::new();
    for _ in 0..50 {
        let (key, claim) = bench.claimed().await;
        let (record, ttl) = (record_of(&claim), clock.shortest());
        let complete = bench.complete(&key, claim.owner(), &record, ttl);
        ended.push((key, clock.grant(ttl, complete).await.1));
    }
    for (key, ttl) in ended {
        ttl.over().await;
        exactly_one_starts(&bench, key).await;
    }
}

/// Of many concurrent completions of one claim exactly one is taken, and of many releases exactly
/// one, 120 times.
///
/// If both race, a release may come first, but the completion that follows it stays.
pub async fn exactly_one_concurrent_ending_is_taken<S: Store>(store: S, clock: Clock) {
    let bench = Arc::new(Bench::new(store, clock));
    for round in 0..120 {
        let (key, claim) = bench.claimed().await;
        let turn = AtomicUsize::new(0);
        let endings = race(32, || {
            let (bench, owner, record) = (Arc::clone(&bench), claim.owner(), record_of(&claim));
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            // Completions only, releases only, or both in turns.
            let is_release = [false, true, turn % 2 == 0][round % 3];
            async move {
                if is_release {
                    (bench.release(&key, owner).await, None)
                } else {
                    let held = bench.complete(&key, owner, &record, LONG).await;
                    (held, Some(record))
                }
            }
        })
        .await;
        let taken = endings.into_iter().filter_map(|(held, record)| {
            let is_taken = held == Ownership::Held;
            is_taken.then_some(record)
        });
        let (kept, released): (Vec<_>, Vec<_>) = taken.partition(Option::is_some);
        match (round % 3, &kept[..], released.len()) {
            (0, [Some(record)], 0) | (2, [Some(record)], 0 | 1) => {
                bench
                    .must_be_completed(&key, record, "the completion that was taken")
                    .await;
            }
            (1, [], 1) => bench.must_be_absent(&key, "the release was taken").await,
            (_, kept, released) => panic!(
                "{} completions and {released} releases of one claim were taken",
                kept.len()
            ),
        }
    }
}

/// After a lease has ended, either its owner's late completion or a concurrent claim has the key,
/// never both, 100 times.
pub async fn a_late_completion_and_a_claim_exclude_each_other<S: Store>(store: S, clock: Clock) {
    let bench = Arc::new(Bench::new(store, clock));
    let mut ended = Vec::new();
    for _ in 0..100 {
        ended.push(bench.claimed_for(clock.shortest()).await);
    }
    for (key, late, lease) in ended {
        lease.over().await;
        exactly_one_has(&bench, key, late).await;
    }
}

/// Of a completion of a key that nobody has claimed and concurrent claims of it, exactly one has
/// the key, 100 times.
pub async fn a_completion_without_a_claim_and_a_claim_exclude_each_other<S: Store>(
    store: S,
    clock: Clock,
) {
    let bench = Arc::new(Bench::new(store, clock));
    for _ in 0..100 {
        exactly_one_has(&bench, fresh_key(), fresh_claim()).await;
    }
}

/// Races claims of an absent key with completions by an owner that does not hold it.
async fn exactly_one_has<S: Store>(bench: &Arc<Bench<S>>, key: RecordKey, late: Claim) {
    let turn = AtomicUsize::new(0);
    let answers = race(16, || {
        let (bench, claim, record) = (Arc::clone(bench), fresh_claim(), record_of(&late));
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        async move {
            if turn % 4 == 0 {
                let begun = bench.begin(&key, &claim, LONG).await;
                return matches!(begun, Begin::Started).then_some((claim, None));
            }
            let completed = bench.complete(&key, late.owner(), &record, LONG).await;
            bench
                .must_not_hold(&key, &late, "the owner of a lost lease")
                .await;
            (completed == Ownership::Held).then_some((late, Some(record)))
        }
    })
    .await;
    let have: Vec<_> = answers.into_iter().flatten().collect();
    match &have[..] {
        [(_, Some(record))] => {
            bench
                .must_be_completed(&key, record, "the late completion that was taken")
                .await;
        }
        [(claim, None)] => {
            bench
                .must_be_held(&key, claim, "the claim that started")
                .await;
        }
        _ => panic!(
            "{} claims and late completions of one key were taken",
            have.len()
        ),
    }
}

async fn exactly_one_starts<S: Store>(bench: &Arc<Bench<S>>, key: RecordKey) {
    let answers = race(64, || {
        let (bench, claim) = (Arc::clone(bench), fresh_claim());
        async move { (claim, bench.begin(&key, &claim, LONG).await) }
    })
    .await;
    let is_started = |(_, begun): &&(Claim, Begin)| matches!(begun, Begin::Started);
    let started: Vec<_> = answers.iter().filter(is_started).collect();
    let [(winner, _)] = started[..] else {
        panic!(
            "{} of 64 concurrent claims of one key started",
            started.len()
        );
    };
    for (_, begun) in &answers {
        match begun {
            Begin::Started => {}
            Begin::InProgress(fingerprint) if *fingerprint == winner.fingerprint() => {}
            found => panic!("a claim that came second was answered {found:?}"),
        }
    }
    bench
        .must_be_held(&key, winner, "the claim that started")
        .await;
}

/// Takes each step in a task of its own, which waits for all others before it begins.
pub(super) async fn race<T, F>(tasks: usize, mut step: impl FnMut() -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let barrier = Arc::new(Barrier::new(tasks));
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        let (barrier, step) = (Arc::clone(&barrier), step());
        running.spawn(async move {
            barrier.wait().await;
            step.await
        });
    }
    running.join_all().await
}
