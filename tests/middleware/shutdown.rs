//! The handle to wait for detached work at shutdown.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;
use tower_idempotency::store::StoreErrorKind::Unavailable;

use crate::support::{Call, Fault, Gate, Handler, LEASE, created, scripted, send, write};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn wait_returns_when_the_last_detached_request_is_done() {
    let (layer, _) = scripted();
    let detached = layer.detached();
    detached.wait(Duration::ZERO).await.unwrap();
    let handler = Handler::new(|run, _| async move {
        sleep(SECOND * run as u32).await;
        created("{}")
    });
    // One count for the layer, its clones, and all their services.
    let other = handler.under(&layer.clone());
    for (key, app) in [("a", &handler.under(&layer)), ("b", &other), ("c", &other)] {
        let left = timeout(Duration::from_millis(10), app.clone().oneshot(write(key)));
        assert!(left.await.is_err());
    }
    assert_eq!(detached.count(), 3);

    let start = Instant::now();
    let unfinished = detached.wait(SECOND * 2 + SECOND / 2).await.unwrap_err();
    assert_eq!(unfinished.count(), 1);
    // The wait can be repeated, by several at once.
    let (one, two) = tokio::join!(detached.wait(SECOND), detached.wait(SECOND));
    assert_eq!((one, two), (Ok(()), Ok(())));
    assert_eq!(detached.count(), 0);
    assert!(
        start.elapsed() < SECOND * 3 + SECOND / 10,
        "{:?}",
        start.elapsed()
    );
    for key in ["a", "b", "c"] {
        send(&other, write(key)).await.assert_replay("{}");
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_end_is_reported_and_goes_on() {
    let (layer, _) = scripted();
    let detached = layer.detached();
    let gate = Gate::new();
    let app = Handler::at(&gate).under(&layer);
    let left = tokio::spawn(app.clone().oneshot(write("k")));
    gate.reached().await;
    left.abort();
    let _ = left.await;
    let start = Instant::now();
    assert_eq!(detached.wait(SECOND).await.unwrap_err().count(), 1);
    assert_eq!(start.elapsed(), SECOND);
    gate.open();
    detached.wait(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_write_to_the_store_that_is_tried_again_is_waited_for() {
    let (layer, store) = scripted();
    store.once(Call::Complete, Fault::Fail(Unavailable));
    let app = Handler::creating("{}").under(&layer);
    send(&app, write("k")).await;
    assert_eq!(layer.detached().count(), 1);
    layer.detached().wait(LEASE).await.unwrap();
    send(&app, write("k")).await.assert_replay("{}");
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_client_stays_is_not_detached() {
    let (layer, store) = scripted();
    for call in [Call::Begin, Call::Complete] {
        store.always(call, Fault::Pend(2));
    }
    let detached = layer.detached();
    let seen = detached.clone();
    let handler = Handler::new(move |_, _| {
        let seen = seen.clone();
        async move {
            crate::support::pend(2).await;
            assert_eq!(seen.count(), 0);
            created("{}")
        }
    });
    send(&handler.under(&layer), write("k"))
        .await
        .assert_run("{}");
    assert_eq!(detached.count(), 0);
}

#[test]
fn a_runtime_that_ends_under_detached_work_frees_its_keys() {
    for pending in [0, 20] {
        let (layer, store) = scripted();
        store.always(Call::Release, Fault::Pend(pending));
        let gate = Gate::new();
        let app = Handler::at(&gate).under(&layer);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let client_has_left = async {
            let left = tokio::spawn(app.clone().oneshot(write("k")));
            gate.reached().await;
            left.abort();
            assert!(left.await.is_err());
        };
        runtime.block_on(client_has_left);
        assert_eq!(layer.detached().count(), 1);
        drop(runtime);
        assert_eq!(layer.detached().count(), 0);
        // A store that needs the runtime to answer can't be reached any more; then the lease ends.
        assert_eq!(store.memory.is_empty(), pending == 0);
    }
}
