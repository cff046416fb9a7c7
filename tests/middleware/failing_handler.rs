//! A handler that panics, fails, or whose body breaks: the key is free at once.

use std::panic::{AssertUnwindSafe, catch_unwind};

use http::Response;
use http_body_util::BodyExt;
use tokio_test::task;
use tower::ServiceExt;
use tower_idempotency::{NotKept, Outcome};

use crate::support::{
    Broken, Call, Failure, Fault, Frames, Handled, Handler, Piece, created, pend, scripted, send,
    write,
};

/// A handler that ends so in its first run, and well in its second.
fn first(finish: fn() -> Handled) -> Handler {
    Handler::new(move |run, _| async move {
        pend(3).await;
        if run == 1 { finish() } else { created("{}") }
    })
}

#[tokio::test(start_paused = true)]
async fn an_error_is_passed_on_unchanged_and_the_key_is_free_before() {
    let (layer, store) = scripted();
    store.always(Call::Release, Fault::Pend(3));
    let handler = first(|| Err(Failure("the handler fails")));
    let app = handler.under(&layer);
    let error = app.clone().oneshot(write("k")).await.unwrap_err();
    assert_eq!(error, Failure("the handler fails"));
    assert!(store.memory.is_empty());
    send(&app, write("k")).await.assert_run("{}");
    assert_eq!(handler.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_passed_on_with_its_payload_and_the_key_is_free() {
    #[derive(Debug, PartialEq)]
    struct Payload(u32);
    let (layer, store) = scripted();
    let detached = layer.detached();
    let handler = first(|| std::panic::panic_any(Payload(7)));
    let app = handler.under(&layer);
    let mut future = task::spawn(app.clone().oneshot(write("k")));
    assert!(future.poll().is_pending());
    let poll = || while future.poll().is_pending() {};
    let panic = catch_unwind(AssertUnwindSafe(poll)).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&Payload(7)));
    // At once: the future is not even dropped.
    assert!(store.memory.is_empty());
    drop(future);
    assert_eq!(
        detached.count(),
        0,
        "a future that has panicked is not carried on"
    );
    send(&app, write("k")).await.assert_run("{}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_background_frees_the_key() {
    let (layer, store) = scripted();
    store.always(Call::Release, Fault::Pend(3));
    let detached = layer.detached();
    let app = first(|| panic!("the handler panics")).under(&layer);
    let mut future = task::spawn(app.clone().oneshot(write("k")));
    assert!(future.poll().is_pending());
    drop(future);
    detached.wait(crate::support::LEASE).await.unwrap();
    assert!(store.memory.is_empty());
    send(&app, write("k")).await.assert_run("{}");
}

#[tokio::test(start_paused = true)]
async fn a_body_of_known_size_that_breaks_reaches_the_client_broken_and_frees_the_key() {
    let (layer, store) = scripted();
    store.always(Call::Release, Fault::Pend(3));
    let handler = first(|| {
        Ok(Response::new(Frames::exact([
            Piece::Data("a"),
            Piece::Break,
        ])))
    });
    let app = handler.under(&layer);
    let response = app.clone().oneshot(write("k")).await.unwrap();
    let outcome = Outcome::of(response.extensions());
    assert_eq!(outcome, Outcome::NotKept(NotKept::BrokenBody));
    assert!(store.memory.is_empty());
    assert_breaks_after_a(response.into_body()).await;
    send(&app, write("k")).await.assert_run("{}");
}

#[tokio::test(start_paused = true)]
async fn a_body_of_unknown_size_that_breaks_frees_the_key_before_its_client_sees_it() {
    let (layer, store) = scripted();
    store.always(Call::Release, Fault::Pend(3));
    let handler = first(|| {
        Ok(Response::new(Frames::unknown([
            Piece::Data("a"),
            Piece::Break,
        ])))
    });
    let app = handler.under(&layer);
    let response = app.clone().oneshot(write("k")).await.unwrap();
    assert_breaks_after_a(response.into_body()).await;
    assert!(store.memory.is_empty());
    send(&app, write("k")).await.assert_run("{}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_panics_frees_the_key() {
    for body in [
        || Frames::exact([Piece::Data("a"), Piece::Panic, Piece::Data("b")]),
        || Frames::unknown([Piece::Data("a"), Piece::Panic, Piece::Data("b")]),
    ] as [fn() -> Frames; 2]
    {
        let (layer, store) = scripted();
        let detached = layer.detached();
        let app = Handler::new(move |_, _| async move { Ok(Response::new(body())) }).under(&layer);
        let request = app.clone().oneshot(write("k"));
        let mut request = task::spawn(async { request.await.unwrap().into_body().collect().await });
        let panicked = catch_unwind(AssertUnwindSafe(|| request.poll()));
        assert!(panicked.is_err());
        drop(request);
        assert_eq!((store.memory.len(), detached.count()), (0, 0));
    }
}

async fn assert_breaks_after_a<RB>(mut body: RB)
where
    RB: http_body::Body<Data = bytes::Bytes, Error = Broken> + Unpin,
{
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "a");
    assert_eq!(body.frame().await.unwrap().unwrap_err(), Broken);
    assert!(body.frame().await.is_none());
}
