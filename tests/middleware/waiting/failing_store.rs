//! A store that fails while somebody waits, or is slow.

use std::time::Duration;

use http::Response;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;
use tower_idempotency::store::StoreErrorKind::{
    Corrupt, Full, Misconfigured, Timeout, Unavailable,
};
use tower_idempotency::{Outcome, StoreFailure};

use super::{LONG, SECOND, assert_nobody_waits, wait, waiting};
use crate::support::{
    Call, Fault, Gate, Handler, LEASE, STORE_TIMEOUT, created, numbered, send, write,
};

const FAULTS: [Fault; 8] = [
    Fault::Fail(Unavailable),
    Fault::Fail(Timeout),
    Fault::Fail(Full),
    Fault::Fail(Corrupt),
    Fault::Fail(Misconfigured),
    Fault::FailAfter(Unavailable),
    Fault::Hang,
    Fault::HangAfter,
];

#[tokio::test(start_paused = true)]
async fn while_the_store_fails_a_waiter_waits_on_and_does_not_run() {
    for fault in FAULTS {
        let gate = Gate::new();
        let handler = Handler::at(&gate);
        let (layer, store) = waiting(10 * SECOND);
        let app = handler.under(&layer);
        let first = tokio::spawn(app.clone().oneshot(write("k")));
        gate.reached().await;
        let start = Instant::now();
        let mut answers = wait(&layer, &app, 3).await;
        for call in [Call::Begin, Call::Release] {
            store.always(call, fault);
        }
        while let Some(answer) = answers.join_next().await {
            let (at, answer) = answer.unwrap();
            answer.assert_in_progress();
            let waited = at - start;
            let most = 10 * SECOND + Duration::from_millis(1);
            assert!(
                10 * SECOND <= waited && waited <= most,
                "{fault:?}: {waited:?}"
            );
        }
        assert_eq!(handler.runs(), 1, "{fault:?}");
        assert_nobody_waits(&layer);
        store.heal();
        gate.open();
        first.await.unwrap().unwrap();
        send(&app, write("k")).await.assert_replay(numbered(1));
        layer.detached().wait(LONG).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_works_again_answers_within_a_pause() {
    for fault in FAULTS {
        let gate = Gate::new();
        let handler = Handler::at(&gate);
        let (layer, store) = waiting(LONG);
        let app = handler.under(&layer);
        let first = tokio::spawn(app.clone().oneshot(write("k")));
        gate.reached().await;
        let mut answers = wait(&layer, &app, 3).await;
        store.always(Call::Begin, fault);
        gate.open();
        first.await.unwrap().unwrap();
        sleep(5 * SECOND).await;
        store.heal();
        let healed = Instant::now();
        while let Some(answer) = answers.join_next().await {
            let (at, answer) = answer.unwrap();
            answer.assert_replay(numbered(1));
            // What hung before the store was mended is given up first.
            let waited = at - healed;
            assert!(
                waited <= SECOND + 2 * STORE_TIMEOUT,
                "{fault:?}: {waited:?}"
            );
        }
        assert_eq!(handler.runs(), 1, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_reply_was_lost_is_given_up_before_the_next_try() {
    for fault in [Fault::FailAfter(Unavailable), Fault::HangAfter] {
        let gate = Gate::new();
        let handler = Handler::new({
            let gate = gate.clone();
            move |run, _| {
                let gate = gate.clone();
                async move {
                    if run == 1 {
                        gate.pass().await;
                        return Ok(Response::builder()
                            .status(500)
                            .body(Default::default())
                            .unwrap());
                    }
                    created(numbered(run))
                }
            }
        });
        let (layer, store) = waiting(LONG);
        let app = handler.under(&layer);
        let first = tokio::spawn(app.clone().oneshot(write("k")));
        gate.reached().await;
        let mut answers = wait(&layer, &app, 3).await;
        store.once(Call::Begin, fault);
        gate.open();
        let freed = Instant::now();
        first.await.unwrap().unwrap();
        let mut runs = 0;
        while let Some(answer) = answers.join_next().await {
            let (at, answer) = answer.unwrap();
            match answer.outcome {
                Outcome::Kept => runs += 1,
                _ => answer.assert_replay(numbered(2)),
            }
            assert!(
                at - freed <= SECOND + STORE_TIMEOUT,
                "{fault:?}, not at the lease's end"
            );
        }
        assert_eq!((runs, handler.runs()), (1, 2), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn failing_closed_refuses_whoever_finds_the_store_failing() {
    for fault in FAULTS {
        let gate = Gate::new();
        let handler = Handler::at(&gate);
        let (layer, store) = waiting(LONG);
        let layer = layer.on_store_failure(StoreFailure::Closed);
        let app = handler.under(&layer);
        let first = tokio::spawn(app.clone().oneshot(write("k")));
        gate.reached().await;
        let mut answers = wait(&layer, &app, 3).await;
        store.always(Call::Begin, fault);
        let start = Instant::now();
        while let Some(answer) = answers.join_next().await {
            let (at, answer) = answer.unwrap();
            assert_eq!(answer.status, 503, "{fault:?}");
            assert_eq!(answer.headers["retry-after"], "1");
            // One after the other, each within a pause.
            assert!(at - start <= 3 * (SECOND + STORE_TIMEOUT), "{fault:?}");
        }
        assert_eq!(handler.runs(), 1, "{fault:?}");
        assert_nobody_waits(&layer);
        store.heal();
        gate.open();
        first.await.unwrap().unwrap();
        send(&app, write("k")).await.assert_replay(numbered(1));
    }
}

#[tokio::test(start_paused = true)]
async fn the_stores_time_is_for_each_asking_and_not_for_the_wait() {
    let gate = Gate::new();
    let handler = Handler::at(&gate);
    let (layer, store) = waiting(LONG);
    // A failure would be answered with 503.
    let layer = layer.on_store_failure(StoreFailure::Closed);
    let app = handler.under(&layer);
    store.always(Call::Begin, Fault::LateReply(STORE_TIMEOUT * 9 / 10));
    let first = tokio::spawn(app.clone().oneshot(write("k")));
    gate.reached().await;
    let waiter = tokio::spawn({
        let app = app.clone();
        async move { send(&app, write("k")).await }
    });
    sleep(5 * LEASE).await;
    assert!(!waiter.is_finished());
    gate.open();
    first.await.unwrap().unwrap();
    waiter.await.unwrap().assert_replay(numbered(1));
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_owner_is_gone_is_run_by_a_waiter_when_its_lease_has_ended() {
    let gate = Gate::new();
    let handler = Handler::at(&gate);
    let (layer, store) = waiting(LONG);
    let app = handler.under(&layer);
    // As if its process had died: it neither renews nor releases.
    store.always(Call::Renew, Fault::Hang);
    store.always(Call::Release, Fault::Hang);
    let first = tokio::spawn(app.clone().oneshot(write("k")));
    gate.reached().await;
    let start = Instant::now();
    let mut answers = wait(&layer, &app, 5).await;
    while let Some(answer) = answers.join_next().await {
        let (at, answer) = answer.unwrap();
        assert_eq!(answer.body, numbered(2));
        let waited = at - start;
        assert!(LEASE <= waited && waited <= LEASE + SECOND, "{waited:?}");
    }
    first.abort();
    assert_eq!(handler.runs(), 2);
}
