//! A request that is dropped where it can't go on without its client: what becomes of its key.

use std::time::Duration;

use http::Response;
use tokio::time::sleep;
use tower::ServiceExt;

use crate::support::{
    Call, Fault, Frames, Gate, Handler, LEASE, Piece, STORE_TIMEOUT, created, in_time, numbered,
    responding, scripted, send, until, write,
};

const HOUR: Duration = Duration::from_secs(60 * 60);
const SOON: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_response_that_is_being_kept_is_kept_though_its_request_is_dropped() {
    for fault in [
        Fault::Hang,
        Fault::HangAfter,
        Fault::Late(STORE_TIMEOUT / 2),
    ] {
        let (layer, store) = scripted();
        let layer = layer.max_detached(HOUR, 0);
        store.once(Call::Complete, fault);
        let handler = Handler::creating("{}");
        let app = handler.under(&layer);
        let left = tokio::spawn(app.clone().oneshot(write("k")));
        until(|| store.calls().contains(&Call::Complete)).await;
        left.abort();
        assert!(left.await.is_err());
        layer.detached().wait(LEASE).await.unwrap();
        send(&app, write("k")).await.assert_replay("{}");
        assert_eq!(handler.runs(), 1, "{fault:?}");
        assert!(!store.calls().contains(&Call::Release), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sized_body_that_is_dropped_half_read_is_kept_without_its_bytes() {
    for number in [0, 1] {
        let (layer, _) = scripted();
        let layer = layer.max_detached(HOUR, number);
        let gate = Gate::new();
        let at_gate = gate.clone();
        let handler = Handler::new(move |_, _| {
            let gate = at_gate.clone();
            let never = Piece::Until(Box::pin(async move {
                gate.pass().await;
                std::future::pending::<()>().await;
            }));
            async {
                Ok(Response::new(Frames::exact([
                    Piece::Data("a"),
                    never,
                    Piece::Data("b"),
                ])))
            }
        });
        let app = handler.under(&layer);
        let left = tokio::spawn(app.clone().oneshot(write("k")));
        gate.reached().await;
        left.abort();
        assert!(left.await.is_err());
        assert_eq!(layer.detached().count(), number);
        sleep(HOUR + SOON).await;
        let retry = send(&app, write("k")).await;
        retry.assert_replay("");
        assert_eq!(retry.headers["idempotency-replay-body"], "omitted");
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sized_body_that_breaks_or_panics_after_a_pause_frees_the_key() {
    for end in [|| Piece::Break, || Piece::Panic] {
        let (layer, store) = scripted();
        let handler = Handler::new(move |run, _| async move {
            let pause = Piece::Until(Box::pin(sleep(SOON)));
            match run {
                1 => responding(201, Frames::exact([Piece::Data("a"), pause, end()])),
                _ => created("{}"),
            }
        });
        let app = handler.under(&layer);
        let first = tokio::spawn(app.clone().oneshot(write("k")));
        // Broken or panicked, it is over.
        drop(in_time(first).await);
        assert!(store.memory.is_empty());
        send(&app, write("k")).await.assert_run("{}");
    }
}

#[tokio::test(start_paused = true)]
async fn however_few_may_be_detached_the_key_of_one_that_is_dropped_is_freed_by_a_slow_store() {
    let (layer, store) = scripted();
    store.always(Call::Release, Fault::Late(STORE_TIMEOUT / 2));
    let layer = layer.max_detached(HOUR, 0);
    let gate = Gate::new();
    let app = Handler::at(&gate).under(&layer);
    let left = tokio::spawn(app.clone().oneshot(write("k")));
    gate.reached().await;
    left.abort();
    assert!(left.await.is_err());
    layer.detached().wait(SOON).await.unwrap();
    send(&app, write("k")).await.assert_run(numbered(2));
}

#[tokio::test(start_paused = true)]
async fn a_detached_handler_and_the_body_that_it_answers_with_count_once() {
    let (layer, _) = scripted();
    let layer = layer.max_detached(HOUR, 1);
    let gate = Gate::new();
    let at_gate = gate.clone();
    let handler = Handler::new(move |_, _| {
        let gate = at_gate.clone();
        async move {
            gate.pass().await;
            let wait = Piece::Until(Box::pin(async move { gate.pass().await }));
            Ok(Response::new(Frames::unknown([
                Piece::Data("a"),
                wait,
                Piece::Data("b"),
            ])))
        }
    });
    let app = handler.under(&layer);
    let left = tokio::spawn(app.clone().oneshot(write("k")));
    gate.reached().await;
    left.abort();
    assert!(left.await.is_err());
    gate.open();
    gate.reached().await;
    assert_eq!(layer.detached().count(), 1);
    gate.open();
    layer.detached().wait(SOON).await.unwrap();
    send(&app, write("k")).await.assert_replay("ab");
}
