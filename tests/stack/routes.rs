//! Routes: settings for some of them, nested and unknown ones, and equivalent targets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::post as to;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::map_request_body::MapRequestBodyLayer;
use tower_idempotency::{DoNotKeep, IdempotencyLayer, MemoryStore, Outcome};

use crate::client::{hang_up, post, send, spawn};
use crate::parts::{Api, handlers, sharing};

/// Answers with the number of the run.
async fn number(Extension(runs): Extension<Arc<AtomicUsize>>) -> String {
    format!("run {}", runs.fetch_add(1, Ordering::SeqCst) + 1)
}

fn counting(app: Router) -> Router {
    app.layer(Extension(Arc::new(AtomicUsize::new(0))))
}

fn keyless(target: &str) -> Request {
    let mut request = post(target, "k");
    request.headers_mut().remove("idempotency-key");
    request
}

#[tokio::test(start_paused = true)]
async fn a_route_with_settings_of_its_own_shares_store_and_drain() {
    let base = IdempotencyLayer::new(MemoryStore::new());
    let strict = base.clone().require_key(true);
    let api = Api::new();
    let payments = Router::new()
        .route("/payments", to(number))
        .merge(handlers())
        .route_layer(strict);
    let notes = Router::new()
        .route("/notes", to(number))
        .route_layer(base.clone());
    let app = sharing(counting(payments.merge(notes)), &api);

    assert_eq!(send(&app, keyless("/payments")).await.seen(), (400, false));
    assert_eq!(send(&app, keyless("/notes")).await.seen(), (200, false));
    // One store: a key that is used on one route is known on the other.
    assert_eq!(send(&app, post("/notes", "k")).await.seen(), (200, false));
    assert_eq!(
        send(&app, post("/payments", "k")).await.seen(),
        (422, false)
    );
    // One drain: whoever waits for one waits for both.
    let client = spawn(&app, post("/slow", "left"));
    api.reached(1).await;
    hang_up(client).await;
    assert_eq!(base.detached().count(), 1);
    api.gate.add_permits(1);
    let waited = base.detached().wait(Duration::from_secs(1)).await;
    waited.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nested_routers_with_the_layer_inside_share_targets() {
    let base = IdempotencyLayer::new(MemoryStore::new());
    let part = || Router::new().route("/vms", to(number));
    let inside = Router::new()
        .nest("/a", part().layer(base.clone()))
        .nest("/b", part().layer(base.clone()));
    let inside = counting(inside);
    assert_eq!(
        send(&inside, post("/a/vms", "in")).await.seen(),
        (200, false)
    );
    // The answer of another route.
    assert_eq!(
        send(&inside, post("/b/vms", "in")).await.seen(),
        (200, true)
    );

    let outside = Router::new().nest("/a", part()).nest("/b", part());
    let outside = counting(outside.layer(base));
    assert_eq!(
        send(&outside, post("/a/vms", "k")).await.seen(),
        (200, false)
    );
    assert_eq!(
        send(&outside, post("/b/vms", "k")).await.seen(),
        (422, false)
    );
}

#[tokio::test(start_paused = true)]
async fn a_404_of_an_unknown_route_is_kept_by_layer_and_not_by_route_layer() {
    let old = || Router::new().route("/other", to(number));
    let new = || old().route("/vms", to(number));
    let base = IdempotencyLayer::new(MemoryStore::new());
    // The route comes with the next version of the application, which has the same store.
    for (app, seen) in [
        (old().layer(base.clone()), (404, false)),
        (new().layer(base.clone()), (404, true)),
    ] {
        let answer = send(&counting(app), post("/vms", "by layer")).await;
        assert_eq!(answer.seen(), seen);
    }
    for (app, seen) in [
        (old().route_layer(base.clone()), (404, false)),
        (new().route_layer(base.clone()), (200, false)),
    ] {
        let answer = send(&counting(app), post("/vms", "by route_layer")).await;
        assert_eq!(answer.seen(), seen);
    }
}

#[tokio::test(start_paused = true)]
async fn an_equivalent_target_is_another_target() {
    let layer = IdempotencyLayer::new(MemoryStore::new());
    // Each of these is the same to this application.
    let app = counting(Router::new().fallback(number).layer(layer));
    let first = "/vms?zone=a&size=2";
    assert_eq!(send(&app, post(first, "k")).await.seen(), (200, false));
    for target in [
        "/vms?size=2&zone=a",
        "/vms/?zone=a&size=2",
        "/vms?zone=a&size=2&",
        "/vms?zone=%61&size=2",
        "/VMS?zone=a&size=2",
    ] {
        let answer = send(&app, post(target, "k")).await;
        assert_eq!((target, answer.seen()), (target, (422, false)));
        assert_eq!(answer.outcome, Outcome::KeyReused);
    }
    assert_eq!(send(&app, post(first, "k")).await.seen(), (200, true));
}

#[tokio::test(start_paused = true)]
async fn an_error_inside_a_200_is_kept_unless_the_handler_says_otherwise() {
    const FAILED: &str = r#"{"errors":[{"message":"the database is away"}]}"#;

    async fn keeping() -> &'static str {
        FAILED
    }
    async fn saying() -> Response {
        (Extension(DoNotKeep), FAILED).into_response()
    }
    let app = Router::new()
        .route("/keeping", to(keeping))
        .route("/saying", to(saying))
        .layer(IdempotencyLayer::new(MemoryStore::new()));
    for (target, replayed) in [("/keeping", true), ("/saying", false)] {
        assert_eq!(send(&app, post(target, target)).await.seen(), (200, false));
        assert_eq!(
            send(&app, post(target, target)).await.seen(),
            (200, replayed)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_asks_for_a_plain_body_is_given_one() {
    let inner = service_fn(async |request: http::Request<Body>| {
        let body = axum::body::to_bytes(request.into_body(), 1024).await?;
        Ok::<_, axum::Error>(http::Response::new(Body::from(body)))
    });
    let mut service = ServiceBuilder::new()
        .layer(IdempotencyLayer::new(MemoryStore::new()))
        .layer(MapRequestBodyLayer::new(Body::new))
        .service(inner);
    for outcome in [Outcome::Kept, Outcome::Replayed] {
        let request = post("/vms", "k");
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(Outcome::of(response.extensions()), outcome);
        let body = axum::body::to_bytes(Body::new(response.into_body()), 1024);
        assert_eq!(body.await.unwrap(), "{}");
    }
}
