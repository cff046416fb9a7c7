use axum::{Router, body::Body, routing::post};
use http::Request;
use http_body_util::BodyExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tower::ServiceExt;
use tower_idempotency::*;

#[tokio::test]
async fn smoke() {
    let runs = Arc::new(AtomicUsize::new(0));
    let r = runs.clone();
    let app = Router::new()
        .route(
            "/",
            post(move || async move {
                r.fetch_add(1, Ordering::SeqCst);
                ([("x-a", "b")], "hello")
            }),
        )
        .layer(IdempotencyLayer::new(MemoryStore::new()));
    for n in 0..3 {
        let req = Request::post("/")
            .header("x-api-key", "k")
            .header("idempotency-key", "1")
            .body(Body::empty())
            .unwrap();
        let res = app.clone().oneshot(req).await.unwrap();
        println!(
            "{:?} {:?} {:?}",
            res.status(),
            res.headers(),
            Outcome::of(res.extensions())
        );
        let outcome = Outcome::of(res.extensions());
        let b = res.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(b, "hello");
        assert_eq!(
            outcome,
            if n == 0 {
                Outcome::Kept
            } else {
                Outcome::Replayed
            }
        );
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}
