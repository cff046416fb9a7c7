//! A clock that steps under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_idempotency::store::{Begin, DynStore, Store};
use tower_idempotency::{IdempotencyLayer, NotKept, Outcome};

use super::api;
use super::counted::Counted;
use super::outage::{STORE_TIMEOUT, load};
use crate::entry;

/// Sets the clock by which a store counts forward by 30 minutes, and then back by an hour, while
/// requests come.
///
/// `set` sets it so many seconds before the machine's clock.
pub async fn of_a_clock(store: DynStore, every: Duration, set: impl AsyncFn(i64)) {
    let layer = IdempotencyLayer::new(store.clone()).store_timeout(STORE_TIMEOUT);
    let counted = Counted::default();
    let router = counted.router(layer.clone());
    let brief = counted.router(layer.ttl(Duration::from_secs(10 * 60)));
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(load(router.clone(), every, Arc::clone(&stop)));
    let run = api::run_id();
    let name = |what: &str| format!("{run}-{what}");
    let (kept, short, slow, alone) = (name("kept"), name("short"), name("slow"), name("alone"));
    let outcome = async |key: &str| api::call(&router, key).await.outcome;
    let a_while = Duration::from_millis(500);

    assert_eq!(outcome(&kept).await, Outcome::Kept);
    assert_eq!(api::call(&brief, &short).await.outcome, Outcome::Kept);
    assert_eq!(outcome(&short).await, Outcome::Replayed);
    let first = counted.start(&router, &slow).await;
    let nobody_elses = counted.start(&router, &alone).await;
    assert_eq!(outcome(&slow).await, Outcome::InProgress);
    sleep(a_while).await;

    // Forward: what has less left than the step ends at once.
    set(30 * 60).await;
    let stepped = Instant::now();
    assert_eq!(outcome(&kept).await, Outcome::Replayed);
    assert_eq!(outcome(&slow).await, Outcome::Kept);
    assert_eq!(outcome(&short).await, Outcome::Kept);
    assert_eq!(first.end().await, Outcome::NotKept(NotKept::LeaseLost));
    assert_eq!(nobody_elses.end().await, Outcome::Kept);
    for (key, runs) in [(&kept, 1), (&short, 2), (&slow, 2), (&alone, 1)] {
        let answer = api::call(&router, key).await;
        assert_eq!(answer.outcome, Outcome::Replayed, "{key}");
        assert_eq!(answer.body, format!("run {runs}"), "{key}");
        assert_eq!(counted.runs(key), runs, "{key}");
    }
    sleep(a_while).await;

    // Back: the claim of a process that has died lasts for an hour longer, as all else does.
    let lease = Duration::from_secs(2);
    let (dead, begun) = (entry::key(1), Instant::now());
    entry::must_start(store.begin(&dead, &entry::claim(), lease).await);
    set(-30 * 60).await;
    let mut refused = 0;
    while begun.elapsed() < 2 * lease {
        let found = store.begin(&dead, &entry::claim(), lease).await;
        assert!(matches!(found, Ok(Begin::InProgress(_))), "{found:?}");
        refused += 1;
        sleep(Duration::from_millis(20)).await;
    }
    for key in [&kept, &short, &slow, &alone] {
        assert_eq!(outcome(key).await, Outcome::Replayed, "{key}");
    }
    // A minute before the hour is over, and a minute after it.
    set(29 * 60).await;
    let found = store.begin(&dead, &entry::claim(), lease).await;
    assert!(matches!(found, Ok(Begin::InProgress(_))), "{found:?}");
    set(31 * 60).await;
    entry::must_start(store.begin(&dead, &entry::claim(), lease).await);

    stop.store(true, Ordering::SeqCst);
    let samples = load.await.unwrap();
    let mut longest = Duration::ZERO;
    for sample in &samples {
        let key = &sample.key;
        let at = sample.at.saturating_duration_since(stepped);
        assert_eq!(
            sample.outcome,
            Outcome::Kept,
            "{key}, {at:?} after the step"
        );
        assert_eq!(outcome(key).await, Outcome::Replayed, "{key}");
        assert_eq!(counted.runs(key), 1, "{key}");
        longest = longest.max(sample.waited);
    }
    println!(
        "the clock set forward by 30 minutes: the running request's key was free, so its retry ran, \
         too; what had been kept for 10 minutes ran again; what was kept for a day was replayed"
    );
    println!(
        "the clock set back by an hour: the claim of a process that had died was refused {refused} \
         times in {:?}, with a lease of {lease:?}, and still 59 minutes later",
        begun.elapsed()
    );
    println!(
        "  of {} other requests meanwhile, each was kept and ran once; longest wait {longest:?}",
        samples.len()
    );
}
