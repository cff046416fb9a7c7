//! A step whose future is dropped half-way is taken completely or not at all.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use super::Clock;
use super::bench::{Bench, LONG, fresh_claim, fresh_key, record_of};
use crate::store::{Begin, Ownership, Store};

/// A claim that is given up half-way is held by its owner or not at all.
pub async fn a_claim_given_up_is_made_or_not<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    for polls in cuts() {
        let (key, claim, next) = (fresh_key(), fresh_claim(), fresh_claim());
        let _ = give_up(bench.begin(&key, &claim, LONG), polls).await;
        match bench.begin(&key, &next, LONG).await {
            // On a server the step may still be taken, but then it comes too late.
            Begin::Started => {
                bench
                    .must_be_held(&key, &next, "after a claim given up")
                    .await;
            }
            Begin::InProgress(fingerprint) if fingerprint == claim.fingerprint() => {
                bench.must_be_held(&key, &claim, "a claim given up").await;
            }
            found => panic!("a claim given up after {polls} polls left {found:?}"),
        }
    }
}

/// A completion that is given up half-way leaves the claim or the whole record, and can be
/// repeated.
pub async fn a_completion_given_up_is_made_or_not<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    for polls in cuts() {
        let (key, claim) = bench.claimed().await;
        let (owner, record) = (claim.owner(), record_of(&claim));
        let _ = give_up(bench.complete(&key, owner, &record, LONG), polls).await;
        match bench.begin(&key, &fresh_claim(), LONG).await {
            Begin::InProgress(fingerprint) if fingerprint == claim.fingerprint() => {}
            Begin::Completed(found) if found == record => {}
            found => panic!("a completion given up after {polls} polls left {found:?}"),
        }
        let _ = bench.complete(&key, owner, &record, LONG).await;
        bench
            .must_be_completed(&key, &record, "a completion given up and repeated")
            .await;
    }
}

/// A renewal that is given up half-way leaves the claim, and can be repeated.
pub async fn a_renewal_given_up_leaves_the_claim<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    for polls in cuts() {
        let (key, claim) = bench.claimed().await;
        let _ = give_up(bench.renew(&key, claim.owner(), LONG), polls).await;
        let renewed = bench.renew(&key, claim.owner(), LONG).await;
        assert_eq!(
            renewed,
            Ownership::Held,
            "renew after one given up after {polls} polls"
        );
        bench
            .must_be_held(&key, &claim, "after a renewal given up")
            .await;
    }
}

/// A release that is given up half-way leaves the claim or nothing, and can be repeated.
pub async fn a_release_given_up_is_made_or_not<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    for polls in cuts() {
        let (key, claim) = bench.claimed().await;
        let _ = give_up(bench.release(&key, claim.owner()), polls).await;
        let _ = bench.release(&key, claim.owner()).await;
        let next = fresh_claim();
        bench
            .must_start(&key, &next, "after a release given up and repeated")
            .await;
        bench
            .must_be_held(&key, &next, "after a release given up and repeated")
            .await;
    }
}

/// Polls a step so many times, and drops it.
async fn give_up<F: Future>(step: F, polls: usize) -> Option<F::Output> {
    let mut step = pin!(step);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        // Woken at once, so that a step that waits for a server is dropped at some point on the
        // way.
        context.waker().wake_by_ref();
        step.as_mut().poll(context).map(Some)
    })
    .await
}

/// Returns numbers of polls: all small ones, and some large ones.
fn cuts() -> impl Iterator<Item = usize> {
    let next = |polls: &usize| Some(polls + 1 + polls / 2);
    (0..16).chain(std::iter::successors(Some(16), next).take_while(|polls| *polls < 4096))
}
