//! The server has acted, and its reply does not arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::{Instant, sleep};
use tower_idempotency::store::DynStore;
use tower_idempotency::{IdempotencyLayer, Outcome};

use super::api;
use super::proxy::Proxy;
use crate::answer::Answer;

const LEASE: Duration = Duration::from_secs(3);

/// Loses the reply of a claim: its key ends in a kept record or a free key.
///
/// `direct` is the same store, not through the proxy.
pub async fn of_a_claim(store: DynStore, proxy: Arc<Proxy>, direct: DynStore) {
    let (runs, key) = (Arc::new(AtomicUsize::new(0)), api::run_id());
    let behind = router(store, &runs, || {});
    proxy.lose_replies(1);
    let first = api::call(&behind, &key).await;
    assert!(proxy.has_lost_all());
    assert_eq!(first.status, StatusCode::CREATED);
    assert!(matches!(first.outcome, Outcome::StoreFailed(_)));
    assert_eq!(runs.load(Ordering::SeqCst), 1);

    let (answer, after) = settled(router(direct, &runs, || {}), &key).await;
    let runs = runs.load(Ordering::SeqCst);
    println!(
        "lost reply of a claim: {:?} after {after:?}",
        answer.outcome
    );
    match answer.outcome {
        Outcome::Replayed => assert_eq!((runs, answer.body), (1, first.body)),
        Outcome::Kept => assert_eq!(runs, 2),
        other => panic!("neither kept nor free: {other:?}"),
    }
}

/// Loses the reply of a completing claim: its record is kept all the same.
pub async fn of_a_completion(store: DynStore, proxy: Arc<Proxy>, direct: DynStore) {
    let (runs, key) = (Arc::new(AtomicUsize::new(0)), api::run_id());
    let losing = Arc::clone(&proxy);
    let behind = router(store, &runs, move || losing.lose_replies(1));
    let first = api::call(&behind, &key).await;
    assert!(proxy.has_lost_all());
    assert_eq!(first.status, StatusCode::CREATED);
    assert!(matches!(first.outcome, Outcome::StoreFailed(_)));

    let (answer, _) = settled(router(direct, &runs, || {}), &key).await;
    assert_eq!(answer.outcome, Outcome::Replayed);
    assert_eq!(answer.body, first.body);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

fn router(
    store: DynStore,
    runs: &Arc<AtomicUsize>,
    before_it_ends: impl Fn() + Clone + Send + Sync + 'static,
) -> axum::Router {
    let runs = Arc::clone(runs);
    let layer = IdempotencyLayer::new(store).lease(LEASE);
    api::router(layer, move |_| {
        let run = runs.fetch_add(1, Ordering::SeqCst);
        before_it_ends();
        async move { (StatusCode::CREATED, format!("run {run}")) }
    })
}

/// Sends a key again and again until it is not in progress, which must be within its lease.
async fn settled(router: axum::Router, key: &str) -> (Answer<Bytes>, Duration) {
    let start = Instant::now();
    loop {
        let answer = api::call(&router, key).await;
        if answer.status != StatusCode::CONFLICT {
            return (answer, start.elapsed());
        }
        // A second for a busy machine.
        assert!(
            start.elapsed() < LEASE + Duration::from_secs(1),
            "the key is stuck"
        );
        sleep(Duration::from_millis(20)).await;
    }
}
