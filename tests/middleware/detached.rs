//! What goes on without its client, and for how long.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::time::sleep;
use tokio_test::task;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_http::timeout::TimeoutLayer;
use tower_idempotency::store::StoreErrorKind::Unavailable;
use tower_idempotency::{IdempotencyLayer, MemoryStore, Outcome, RequestBody};

use crate::support::{
    Call, Failure, Fault, Frames, Gate, Handled, Handler, LEASE, Piece, STORE_TIMEOUT, Scripted,
    created, numbered, pend, scripted, send, write,
};

const HOUR: Duration = Duration::from_secs(60 * 60);
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_handler_without_a_client_is_dropped_after_an_hour_or_as_set_and_its_key_is_free() {
    for (set, time) in [(None, HOUR), (Some(HOUR / 4), HOUR / 4)] {
        let (mut layer, _) = scripted();
        if let Some(time) = set {
            layer = layer.max_detached(time, 10);
        }
        let detached = layer.detached();
        let gate = Gate::new();
        let handler = Handler::at(&gate);
        let app = handler.under(&layer);
        let first = tokio::spawn(app.clone().oneshot(write("k")));
        gate.reached().await;
        // As long as its client is there, it may take its time.
        sleep(HOUR * 2).await;
        first.abort();
        assert!(first.await.is_err());
        assert_eq!(detached.count(), 1);
        sleep(time - SECOND).await;
        send(&app, write("k")).await.assert_in_progress();
        sleep(SECOND * 2).await;
        assert_eq!(detached.count(), 0);
        send(&app, write("k")).await.assert_run(numbered(2));
    }
}

#[tokio::test(start_paused = true)]
async fn beyond_the_number_a_request_ends_with_its_client_and_its_key_is_free() {
    let (layer, _) = scripted();
    let layer = layer.max_detached(HOUR, 3);
    let detached = layer.detached();
    let gate = Gate::new();
    let at_gate = gate.clone();
    let handler = Handler::new(move |_, _| {
        let gate = at_gate.clone();
        async move {
            gate.pass().await;
            created("{}")
        }
    });
    let app = handler.under(&layer);
    for n in 0..10 {
        let left = tokio::spawn(app.clone().oneshot(write(&format!("k{n}"))));
        gate.reached().await;
        left.abort();
        assert!(left.await.is_err());
        assert_eq!(detached.count(), 3.min(n + 1));
    }
    for _ in 0..3 {
        gate.open();
    }
    detached.wait(SECOND).await.unwrap();
    for n in 0..10 {
        gate.open();
        let retry = send(&app, write(&format!("k{n}"))).await;
        let outcome = if n < 3 {
            Outcome::Replayed
        } else {
            Outcome::Kept
        };
        assert_eq!(retry.outcome, outcome, "request {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_of_zero_ends_each_request_with_its_client() {
    let (layer, store) = scripted();
    let layer = layer.max_detached(HOUR, 0);
    let gate = Gate::new();
    let app = Handler::at(&gate).under(&layer);
    let left = tokio::spawn(app.clone().oneshot(write("k")));
    gate.reached().await;
    left.abort();
    assert!(left.await.is_err());
    assert_eq!((layer.detached().count(), store.memory.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_body_without_an_end_or_beyond_the_number_is_kept_without_its_bytes() {
    for number in [0, 1] {
        let (layer, _) = scripted();
        let layer = layer.max_detached(HOUR, number);
        let handler = Handler::new(|_, _| async {
            let never = Piece::Until(Box::pin(std::future::pending()));
            Ok(Response::new(Frames::unknown([Piece::Data("a"), never])))
        });
        let app = handler.under(&layer);
        let response = app.clone().oneshot(write("k")).await.unwrap();
        let mut body = response.into_body();
        assert!(body.frame().await.is_some());
        drop(body);
        assert_eq!(layer.detached().count(), number);
        if number > 0 {
            sleep(HOUR - SECOND).await;
            send(&app, write("k")).await.assert_in_progress();
        }
        sleep(SECOND * 2).await;
        assert_eq!(layer.detached().count(), 0);
        // It has run, and so it does not run again; the body was not whole, and so it is left out.
        let retry = send(&app, write("k")).await;
        retry.assert_replay("");
        assert_eq!(retry.headers["idempotency-replay-body"], "omitted");
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn writes_that_are_tried_again_are_bounded_apart_from_handlers() {
    let (layer, store) = scripted();
    store.always(Call::Complete, Fault::Fail(Unavailable));
    let layer = layer.max_detached(HOUR, 2);
    let gate = Gate::new();
    let waiting = Handler::at(&gate).under(&layer);
    let left = tokio::spawn(waiting.oneshot(write("slow")));
    gate.reached().await;
    left.abort();
    assert!(left.await.is_err());
    let app = Handler::creating("{}").under(&layer);
    for n in 0..103 {
        let answer = send(&app, write(&format!("k{n}"))).await;
        assert_eq!(answer.outcome, Outcome::StoreFailed(Unavailable));
    }
    // One handler, and a hundred writes however few handlers may be there.
    assert_eq!(layer.detached().count(), 101);
    store.heal();
    gate.open();
    layer.detached().wait(LEASE).await.unwrap();
    let mut outcomes = Vec::new();
    for n in 0..103 {
        outcomes.push(send(&app, write(&format!("k{n}"))).await.outcome);
    }
    assert_eq!(outcomes[..100], [Outcome::Replayed; 100]);
    assert_eq!(
        outcomes[100..],
        [Outcome::InProgress; 3],
        "left to their leases"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_dropped_while_the_store_is_asked_does_not_run_and_its_claim_is_given_back() {
    for fault in [
        Fault::Hang,
        Fault::HangAfter,
        Fault::LateReply(STORE_TIMEOUT * 2),
    ] {
        let store = Scripted::default();
        store.always(Call::Begin, fault);
        let layer = IdempotencyLayer::new(store.clone()).lease(LEASE);
        let handler = Handler::creating("{}");
        let limit = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, STORE_TIMEOUT);
        let app = ServiceBuilder::new()
            .layer(limit)
            .layer(&layer)
            .service(handler.clone());
        for _ in 0..4 {
            let answer = send(&app, write("k")).await;
            assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{fault:?}");
        }
        layer.detached().wait(LEASE).await.unwrap();
        sleep(LEASE).await;
        assert_eq!(handler.runs(), 0, "{fault:?}");
        assert!(store.calls().contains(&Call::Release), "{fault:?}");
        store.heal();
        send(&app, write("k")).await.assert_run("{}");
    }
}

/// Says in which span it is each time that it is polled.
async fn span_at_each_poll(polls: usize) -> Vec<Option<&'static str>> {
    let mut spans = Vec::new();
    for _ in 0..polls {
        pend(1).await;
        let span = tracing::Span::current();
        spans.push(span.metadata().map(tracing::Metadata::name));
    }
    spans
}

#[tokio::test(start_paused = true)]
async fn a_detached_request_and_its_body_stay_in_their_span() {
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry());
    let layer = IdempotencyLayer::new(MemoryStore::new());
    let (seen, mut spans) = tokio::sync::mpsc::unbounded_channel();
    let handler = Handler::new(move |_, _| {
        let seen = seen.clone();
        async move {
            seen.send(span_at_each_poll(3).await).unwrap();
            let in_body = seen.clone();
            let wait = Piece::Until(Box::pin(async move {
                in_body.send(span_at_each_poll(3).await).unwrap();
            }));
            let pieces = [Piece::Data("a"), wait, Piece::Data("b"), Piece::Pend];
            Ok(Response::new(Frames::unknown(pieces)))
        }
    });
    let app = handler.under(&layer);
    // The span is that of a middleware further out, which enters it while it polls, and only then.
    let span = tracing::info_span!("request");
    let mut request = task::spawn(app.clone().oneshot(write("k")));
    assert!(span.in_scope(|| request.poll()).is_pending());
    drop(request);
    layer.detached().wait(SECOND).await.unwrap();
    for place in ["handler", "body"] {
        let spans = spans.try_recv().unwrap();
        assert_eq!(spans, [Some("request"); 3], "{place}");
    }
    send(&app, write("k")).await.assert_replay("ab");
}

tokio::task_local! {
    static OUTSIDE: u32;
    static INSIDE: u32;
}

/// Sets [`INSIDE`] around the handler, as a middleware further in does.
#[derive(Clone)]
struct SetInside(Handler);

impl Service<Request<RequestBody<Frames>>> for SetInside {
    type Response = Response<Frames>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Handled> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<RequestBody<Frames>>) -> Self::Future {
        Box::pin(INSIDE.scope(7, self.0.call(request)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_local_set_inside_the_layer_outlives_the_client_and_one_set_outside_does_not() {
    let (layer, _) = scripted();
    let gate = Gate::new();
    let at_gate = gate.clone();
    let (seen, mut values) = tokio::sync::mpsc::unbounded_channel();
    let handler = Handler::new(move |_, _| {
        let (gate, seen) = (at_gate.clone(), seen.clone());
        async move {
            let see = || (OUTSIDE.try_get().ok(), INSIDE.try_get().ok());
            seen.send(see()).unwrap();
            gate.pass().await;
            seen.send(see()).unwrap();
            created("{}")
        }
    });
    let app = layer.layer(SetInside(handler));
    let request = OUTSIDE.scope(1, app.oneshot(write("k")));
    let left = tokio::spawn(request);
    gate.reached().await;
    assert_eq!(values.recv().await, Some((Some(1), Some(7))));
    left.abort();
    assert!(left.await.is_err());
    gate.open();
    assert_eq!(values.recv().await, Some((None, Some(7))));
}
