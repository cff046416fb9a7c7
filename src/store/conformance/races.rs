//! Each step is atomic, however many are taken at once.

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

/// Of many concurrent endings of one claim exactly one is taken, 120 times.
pub async fn exactly_one_concurrent_ending_is_taken<S: Store>(store: S, clock: Clock) {
    let bench = Arc::new(Bench::new(store, clock));
    for round in 0..120 {
        let (key, claim) = bench.claimed().await;
        let turn = AtomicUsize::new(0);
        let endings = race(32, || {
            let (bench, owner, record) = (Arc::clone(&bench), claim.owner(), record_of(&claim));
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            // Completions only, or every other one a release, the first or the second.
            let is_release = round % 3 != 0 && (turn + round) % 2 == 0;
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
        let taken: Vec<_> = endings
            .into_iter()
            .filter_map(|(held, record)| (held == Ownership::Held).then_some(record))
            .collect();
        match &taken[..] {
            [Some(record)] => {
                bench
                    .must_be_completed(&key, record, "the one that was taken")
                    .await;
            }
            [None] => bench.must_be_absent(&key, "the release was taken").await,
            _ => panic!("{} of 32 endings of one claim were taken", taken.len()),
        }
    }
}

/// A late owner's steps never touch a claim that is made at the same time, 100 times.
pub async fn late_endings_do_not_touch_a_concurrent_claim<S: Store>(store: S, clock: Clock) {
    let bench = Arc::new(Bench::new(store, clock));
    let mut ended = Vec::new();
    for _ in 0..100 {
        ended.push(bench.claimed_for(clock.shortest()).await);
    }
    for (key, late, lease) in ended {
        lease.over().await;
        let next = fresh_claim();
        let turn = AtomicUsize::new(0);
        race(16, || {
            let bench = Arc::clone(&bench);
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            async move {
                match turn {
                    8 => bench.must_start(&key, &next, "after the lease ended").await,
                    _ => {
                        bench
                            .must_not_hold(&key, &late, "the owner of a lost lease")
                            .await;
                    }
                }
            }
        })
        .await;
        bench
            .must_be_held(&key, &next, "after the late owner tried")
            .await;
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

/// Takes steps in tasks of their own that wait for one another before they begin.
async fn race<T, F>(tasks: usize, mut step: impl FnMut() -> F) -> Vec<T>
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
