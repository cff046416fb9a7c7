//! A client that says how long it would wait, and waits that come to no answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use tokio::time::Instant;
use tower::ServiceExt;
use tower_idempotency::Outcome;

use super::{SECOND, assert_nobody_waits, waiting};
use crate::support::{Frames, Gate, Handler, created, numbered, responding, send, write};

#[tokio::test(start_paused = true)]
async fn a_wait_without_an_answer_ends_in_409_when_layer_or_client_says() {
    for (max, prefer, waits, applied) in [
        (10 * SECOND, None, 10 * SECOND, None),
        (10 * SECOND, Some("wait=1"), SECOND, Some("wait=1")),
        (SECOND, Some("wait=10"), SECOND, Some("wait=1")),
        (10 * SECOND, Some("wait=0"), Duration::ZERO, Some("wait=0")),
        (SECOND, Some("wait=soon, respond-async"), SECOND, None),
    ] {
        let gate = Gate::new();
        let handler = Handler::at(&gate);
        let (layer, _) = waiting(max);
        let app = handler.under(&layer);
        let first = tokio::spawn(app.clone().oneshot(write("k")));
        gate.reached().await;
        let mut request = write("k");
        if let Some(prefer) = prefer {
            let prefer = HeaderValue::from_static(prefer);
            request.headers_mut().insert("prefer", prefer);
        }
        let start = Instant::now();
        let answer = send(&app, request).await;
        let waited = start.elapsed();
        answer.assert_in_progress();
        assert_eq!(answer.headers["retry-after"], "1");
        // A timer takes up to a millisecond more.
        assert!(
            waits <= waited && waited <= waits + Duration::from_millis(1),
            "{prefer:?}: {waited:?}"
        );
        let said = answer.headers.get("preference-applied");
        assert_eq!(said.map(|said| said.to_str().unwrap()), applied);
        assert_nobody_waits(&layer);
        gate.open();
        first.await.unwrap().unwrap();
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_answers_after_the_wait_says_which_preference_was_applied() {
    let gate = Gate::new();
    let at_gate = gate.clone();
    let handler = Handler::new(move |run, _| {
        let gate = at_gate.clone();
        async move {
            gate.pass().await;
            match run {
                1 => responding(500, Frames::default()),
                _ => created(numbered(run)),
            }
        }
    });
    let (layer, _) = waiting(10 * SECOND);
    // Also where an application words its refusals itself.
    let layer = layer.refuse_with(|refusal, _| {
        let response = Response::builder().status(refusal.status());
        response.body(Bytes::new()).unwrap()
    });
    let app = handler.under(&layer);
    let prefer = |wait| {
        let mut request = write("k");
        let wait = HeaderValue::from_static(wait);
        request.headers_mut().insert("prefer", wait);
        request
    };
    // The first one has nothing to wait for.
    let first = tokio::spawn({
        let app = app.clone();
        async move { send(&app, prefer("wait=9")).await }
    });
    gate.reached().await;
    let second = tokio::spawn({
        let app = app.clone();
        async move { send(&app, prefer("wait=8")).await }
    });
    super::until(|| super::waiters(&layer)[0] == 1).await;
    let refused = send(&app, prefer("wait=1")).await;
    gate.open();
    let first = first.await.unwrap();
    gate.reached().await;
    let third = tokio::spawn({
        let app = app.clone();
        async move { send(&app, prefer("wait=7")).await }
    });
    super::until(|| super::waiters(&layer)[0] == 1).await;
    gate.open();
    let (second, third) = (second.await.unwrap(), third.await.unwrap());
    let at_once = send(&app, prefer("wait=6")).await;

    assert_eq!(first.status, 500);
    assert_eq!(refused.status, StatusCode::CONFLICT);
    second.assert_run(numbered(2));
    third.assert_replay(numbered(2));
    at_once.assert_replay(numbered(2));
    assert_eq!(refused.outcome, Outcome::InProgress);
    for (answer, applied) in [
        (first, None),
        (refused, Some("wait=1")),
        (second, Some("wait=8")),
        (third, Some("wait=7")),
        (at_once, None),
    ] {
        let said = answer.headers.get("preference-applied");
        let said = said.map(|said| said.to_str().unwrap());
        assert_eq!(said, applied, "{answer:?}");
    }
}
