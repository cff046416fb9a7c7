//! The first request has an answer that is kept.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, task};
use tower::{Layer, ServiceExt};
use tower_idempotency::{InFlight, Outcome};

use super::{LONG, SECOND, assert_nobody_waits, wait, waiters, waiting};
use crate::support::{
    Frames, Gate, Handler, Piece, created, numbered, request, responding, scripted, send, write,
};

/// When the first request has ended.
type Ended = Arc<Mutex<Option<Instant>>>;

async fn two_seconds(ended: Ended) {
    sleep(2 * SECOND).await;
    *ended.lock().unwrap() = Some(Instant::now());
}

#[tokio::test(start_paused = true)]
async fn a_hundred_duplicates_have_one_run_and_are_answered_in_the_moment_that_it_ends() {
    let known = |ended: &Ended| {
        let ended = Arc::clone(ended);
        Handler::new(move |_, _| {
            let ended = Arc::clone(&ended);
            async {
                two_seconds(ended).await;
                created("done")
            }
        })
    };
    let of_unknown_size = |ended: &Ended| {
        let ended = Arc::clone(ended);
        Handler::new(move |_, _| {
            let end = Piece::Until(Box::pin(two_seconds(Arc::clone(&ended))));
            async { responding(201, Frames::unknown([Piece::Data("done"), end])) }
        })
    };
    for handler in [&known as &dyn Fn(&Ended) -> Handler, &of_unknown_size] {
        let ended = Ended::default();
        let handler = handler(&ended);
        let (layer, _) = waiting(LONG);
        let app = handler.under(&layer);
        let start = Instant::now();
        let first = tokio::spawn(app.clone().oneshot(write("k")));
        tokio::task::yield_now().await;
        let mut answers = wait(&layer, &app, 99).await;
        let first = first.await.unwrap().unwrap();
        super::Answer::read(first).await.assert_run("done");
        while let Some(answer) = answers.join_next().await {
            let (at, answer) = answer.unwrap();
            answer.assert_replay("done");
            assert!(!answer.headers.contains_key("preference-applied"));
            assert_eq!(Some(at), *ended.lock().unwrap());
        }
        assert!(start.elapsed() >= 2 * SECOND);
        assert_eq!(handler.runs(), 1);
        assert_nobody_waits(&layer);
    }
}

#[tokio::test(start_paused = true)]
async fn a_clone_of_the_layer_that_does_not_wait_wakes_the_waiters_of_one_that_does() {
    let gate = Gate::new();
    let handler = Handler::at(&gate);
    let (refusing, _) = scripted();
    let layer = refusing.clone().in_flight(InFlight::Wait(LONG));
    let (refuses, waits) = (handler.under(&refusing), handler.under(&layer));
    let first = tokio::spawn(refuses.clone().oneshot(write("k")));
    gate.reached().await;
    let mut answers = wait(&layer, &waits, 2).await;
    send(&refuses, write("k")).await.assert_in_progress();
    let opened = Instant::now();
    gate.open();
    first.await.unwrap().unwrap();
    while let Some(answer) = answers.join_next().await {
        let (at, answer) = answer.unwrap();
        answer.assert_replay(numbered(1));
        assert_eq!(at, opened);
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_unread_while_its_request_waits_and_read_when_it_is_answered() {
    let gate = Gate::new();
    let handler = Handler::at(&gate);
    let (layer, _) = waiting(LONG);
    let app = handler.under(&layer);
    let first = tokio::spawn(app.clone().oneshot(write("k")));
    gate.reached().await;

    let reading = Gate::new();
    let at_reading = reading.clone();
    let until = Piece::Until(Box::pin(async move { at_reading.pass().await }));
    let (upload, watch) = Frames::unknown([until, Piece::Data("1"), Piece::Data("2")]).watched();
    reading.open();
    let mut waiter = task::spawn(
        layer
            .layer(handler.clone())
            .oneshot(write("k").map(|_| upload)),
    );
    assert_pending!(waiter.poll());
    sleep(SECOND).await;
    assert_pending!(waiter.poll());
    assert_pending!(task::spawn(reading.reached()).poll(), "nobody reads yet");
    gate.open();
    first.await.unwrap().unwrap();
    let answer = super::Answer::read(waiter.await.unwrap()).await;
    answer.assert_replay(numbered(1));
    assert_eq!(watch.read_until_dropped().await, 2);
}

#[tokio::test(start_paused = true)]
async fn another_target_or_method_is_refused_at_once() {
    let gate = Gate::new();
    let handler = Handler::at(&gate);
    let (layer, _) = waiting(LONG);
    let app = handler.under(&layer);
    let first = tokio::spawn(app.clone().oneshot(write("k")));
    gate.reached().await;
    let start = Instant::now();
    for other in [
        request(Method::PUT, "/vms", "k"),
        request(Method::POST, "/vms/1", "k"),
    ] {
        assert_eq!(send(&app, other).await.outcome, Outcome::KeyReused);
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    gate.open();
    first.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_client_leaves_leaves_nothing_behind_and_is_no_detached_work() {
    let gate = Gate::new();
    let handler = Handler::at(&gate);
    let (layer, store) = waiting(LONG);
    let app = handler.under(&layer);
    let first = tokio::spawn(app.clone().oneshot(write("k")));
    gate.reached().await;
    let mut answers = wait(&layer, &app, 3).await;
    assert_eq!(waiters(&layer), [3, 1]);
    assert_eq!(handler.reserved(), 1, "waiters keep nothing reserved");
    let start = Instant::now();
    layer.detached().wait(SECOND).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO, "no waiter is waited for");

    answers.shutdown().await;
    assert_nobody_waits(&layer);
    assert_eq!(layer.detached().count(), 0);
    let calls = store.calls().len();
    sleep(SECOND * 5 / 2).await;
    // The first one's renewals go on, and nothing else.
    let later = &store.calls()[calls..];
    assert!(
        later
            .iter()
            .all(|call| *call == crate::support::Call::Renew),
        "{later:?}"
    );
    gate.open();
    first.await.unwrap().unwrap();
    send(&app, write("k")).await.assert_replay(numbered(1));
    assert_eq!(handler.runs(), 1);
}

#[test]
fn without_a_timer_a_duplicate_is_refused_at_once() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let gate = Gate::new();
        let handler = Handler::at(&gate);
        let (layer, _) = waiting(LONG);
        let app = handler.under(&layer);
        let mut first = task::spawn(app.clone().oneshot(write("k")));
        assert_pending!(first.poll());
        let mut second = task::spawn(app.clone().oneshot(write("k")));
        let second = tokio_test::assert_ready_ok!(second.poll());
        assert_eq!(Outcome::of(second.extensions()), Outcome::InProgress);
        assert_nobody_waits(&layer);
    });
}
