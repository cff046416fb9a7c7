//! The same layers on the other side of this one: what each would do there, and why it should not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::timeout::TimeoutLayer;
use tower_idempotency::{IdempotencyLayer, MemoryStore};

use crate::client::{ALICE, hang_up, post, send, spawn, with};
use crate::parts::{Api, authenticate, handlers, limit_rate, set_task_locals, sharing};

const LONG: Duration = Duration::from_secs(60);

fn idempotency() -> IdempotencyLayer<MemoryStore> {
    IdempotencyLayer::new(MemoryStore::new())
}

/// The handlers with what a test puts inside this layer.
fn around(inside: Router, api: &Arc<Api>) -> Router {
    sharing(inside.layer(idempotency()), api)
}

#[tokio::test(start_paused = true)]
async fn a_request_id_set_inside_is_replayed_with_the_first_answer() {
    let api = Api::new();
    let ids = ServiceBuilder::new()
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(PropagateRequestIdLayer::x_request_id());
    let app = around(handlers().layer(ids), &api);
    let first = send(&app, post("/vms", "k")).await;
    let again = send(&app, post("/vms", "k")).await;
    assert_eq!(again.header("x-request-id"), first.header("x-request-id"));
}

#[tokio::test(start_paused = true)]
async fn cors_inside_leaves_refusals_without_and_replays_with_the_first_origin() {
    let origins = ["https://one.example.com", "https://two.example.com"];
    let api = Api::new();
    let cors = CorsLayer::new().allow_origin(origins.map(HeaderValue::from_static));
    let app = around(handlers().layer(cors), &api);
    for origin in origins {
        let answer = send(&app, with(post("/vms", "k"), [("origin", origin)])).await;
        assert_eq!(answer.header("access-control-allow-origin"), origins[0]);
    }
    let refused = send(&app, with(post("/slow", "k"), [("origin", origins[0])])).await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.header("access-control-allow-origin"), "");
}

#[tokio::test(start_paused = true)]
async fn compression_inside_replays_an_encoding_that_the_retry_does_not_accept() {
    let api = Api::new();
    let app = around(handlers().layer(CompressionLayer::new()), &api);
    let first = with(post("/vms", "k"), [("accept-encoding", "gzip")]);
    assert_eq!(send(&app, first).await.header("content-encoding"), "gzip");
    let again = with(post("/vms", "k"), [("accept-encoding", "identity")]);
    let again = send(&app, again).await;
    assert_eq!(again.seen(), (201, true));
    assert_eq!(again.header("content-encoding"), "gzip");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_inside_stops_the_handler_and_the_retry_runs_again() {
    let api = Api::new();
    let limit = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, LONG);
    let app = around(handlers().layer(limit), &api);
    for runs in 1..=2 {
        let answer = send(&app, post("/slow", "k")).await;
        assert_eq!(answer.seen(), (504, false));
        assert_eq!(api.runs(), runs);
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirect_inside_uses_the_key_up_at_the_old_address() {
    async fn moved(request: Request, next: Next) -> Response {
        match request.uri().path() {
            "/old-vms" => (StatusCode::MOVED_PERMANENTLY, [(LOCATION, "/vms")]).into_response(),
            _ => next.run(request).await,
        }
    }
    let api = Api::new();
    let app = around(handlers().layer(from_fn(moved)), &api);
    assert_eq!(send(&app, post("/old-vms", "k")).await.seen(), (301, false));
    assert_eq!(send(&app, post("/vms", "k")).await.seen(), (422, false));
}

#[tokio::test(start_paused = true)]
async fn authentication_inside_lets_a_revoked_credential_have_its_replay() {
    let api = Api::new();
    let app = around(handlers().layer(from_fn(authenticate)), &api);
    send(&app, post("/vms", "k")).await;
    api.users.lock().unwrap().remove(ALICE.1);
    assert_eq!(send(&app, post("/vms", "k")).await.seen(), (201, true));
    assert_eq!(send(&app, post("/vms", "new")).await.seen(), (401, false));
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_inside_counts_no_retry() {
    let api = Api::new();
    api.quota.store(1, Ordering::SeqCst);
    let app = around(handlers().layer(from_fn(limit_rate)), &api);
    for replayed in [false, true, true] {
        assert_eq!(send(&app, post("/vms", "k")).await.seen(), (201, replayed));
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_hang_up_slip_past_a_concurrency_limit_outside() {
    let api = Api::new();
    let layer = idempotency();
    let detached = layer.detached();
    let app = handlers()
        .layer(layer)
        .layer(GlobalConcurrencyLimitLayer::new(1));
    let app = sharing(app, &api);
    for key in ["a", "b", "c"] {
        let client = spawn(&app, post("/slow", key));
        api.reached(1).await;
        hang_up(client).await;
    }
    api.gate.add_permits(3);
    detached.wait(LONG).await.unwrap();
    assert_eq!(api.most_running.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_full_limit_in_the_same_builder_makes_a_retry_wait() {
    let api = Api::new();
    let layers = ServiceBuilder::new()
        .layer(idempotency())
        .layer(GlobalConcurrencyLimitLayer::new(1));
    let app = sharing(handlers().layer(layers), &api);
    let first = spawn(&app, post("/slow", "k"));
    api.reached(1).await;
    let retry = spawn(&app, post("/slow", "k"));
    tokio::time::sleep(LONG).await;
    assert!(!retry.is_finished(), "it would be 409 by now");
    api.gate.add_permits(1);
    assert_eq!(first.await.unwrap().seen(), (201, false));
    assert_eq!(retry.await.unwrap().seen(), (201, true));
}

#[tokio::test(start_paused = true)]
async fn a_task_local_set_outside_is_gone_with_the_client() {
    let api = Api::new();
    let layer = idempotency();
    let detached = layer.detached();
    let app = handlers().layer(layer).layer(from_fn(set_task_locals));
    let app = sharing(app, &api);
    for (key, leaves, expected) in [
        ("a", false, "run 1 for a tenant"),
        ("b", true, "run 2 for nobody"),
    ] {
        let client = spawn(&app, post("/tenant", key));
        api.reached(1).await;
        if leaves {
            hang_up(client).await;
        } else {
            api.gate.add_permits(1);
            assert_eq!(client.await.unwrap().text(), expected);
            continue;
        }
        api.gate.add_permits(1);
        detached.wait(LONG).await.unwrap();
        assert_eq!(send(&app, post("/tenant", key)).await.text(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn catching_panics_inside_does_the_same_as_outside() {
    let api = Api::new();
    let app = around(handlers().layer(CatchPanicLayer::new()), &api);
    for seen in [(500, false), (201, false), (201, true)] {
        assert_eq!(send(&app, post("/panic", "k")).await.seen(), seen);
    }
}
