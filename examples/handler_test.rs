//! How to unit-test a handler behind the layer: without a server, and without waiting.
//!
//! `cargo test --example handler_test` runs it as tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::post;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio_test::{assert_pending, task};
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_idempotency::{IdempotencyLayer, MemoryStore, Outcome, RequestBody};

/// The handler under test: it counts the orders.
async fn order(State(orders): State<Arc<AtomicUsize>>) -> (StatusCode, String) {
    let number = orders.fetch_add(1, Ordering::SeqCst) + 1;
    (StatusCode::CREATED, format!("order {number}"))
}

fn request() -> Request<Body> {
    Request::post("/orders")
        .header("x-api-key", "alice-key")
        .header("idempotency-key", "order-1")
        .body(Body::empty())
        .expect("a valid request")
}

/// The handler itself is called, and the outcome says what the layer did.
async fn a_retry_gets_the_first_answer_and_orders_nothing() -> Result<(), BoxError> {
    let orders = Arc::new(AtomicUsize::new(0));
    let app = Router::new()
        .route("/orders", post(order))
        .layer(IdempotencyLayer::new(MemoryStore::new()))
        .with_state(Arc::clone(&orders));

    for expected in [Outcome::Kept, Outcome::Replayed] {
        let response = app.clone().oneshot(request()).await?;
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(Outcome::of(response.extensions()), expected);
        assert_eq!(response.into_body().collect().await?.to_bytes(), "order 1");
    }
    assert_eq!(orders.load(Ordering::SeqCst), 1);
    Ok(())
}

/// A mock in the handler's place answers when the test lets it, and shows whether it was called.
async fn a_retry_meanwhile_is_refused_and_the_handler_called_once() -> Result<(), BoxError> {
    let (mock, mut handler) =
        tower_test::mock::pair::<Request<RequestBody<Body>>, Response<Body>>();
    let mut service = IdempotencyLayer::new(MemoryStore::new()).layer(mock);

    handler.allow(2);
    let mut first = task::spawn(service.ready().await?.call(request()));
    assert_pending!(first.poll());
    let (arrived, answer) = handler.next_request().await.expect("the first request");
    assert_eq!(arrived.uri(), "/orders");

    let refused = service.ready().await?.call(request()).await?;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(Outcome::of(refused.extensions()), Outcome::InProgress);

    answer.send_response(Response::new(Body::from("done")));
    assert_eq!(Outcome::of(first.await?.extensions()), Outcome::Kept);
    assert_pending!(handler.poll_request());
    Ok(())
}

/// Time is tokio's, so a test can let a day pass at once.
async fn a_day_later_the_handler_runs_again() -> Result<(), BoxError> {
    let orders = Arc::new(AtomicUsize::new(0));
    let app = Router::new()
        .route("/orders", post(order))
        .layer(IdempotencyLayer::new(MemoryStore::new()))
        .with_state(Arc::clone(&orders));

    app.clone().oneshot(request()).await?;
    tokio::time::advance(Duration::from_secs(24 * 60 * 60)).await;
    app.oneshot(request()).await?;
    assert_eq!(orders.load(Ordering::SeqCst), 2);
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    tokio::time::pause();
    a_retry_gets_the_first_answer_and_orders_nothing().await?;
    a_retry_meanwhile_is_refused_and_the_handler_called_once().await?;
    a_day_later_the_handler_runs_again().await?;
    println!("All three hold.");
    Ok(())
}

#[test]
fn the_examples_hold() -> Result<(), BoxError> {
    main()
}
