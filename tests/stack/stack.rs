//! The whole stack that `docs/placement.md` draws, as the code block there has it.

use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tower_idempotency::{IdempotencyLayer, MemoryStore};

use crate::parts::{authenticate, limit_rate, redirect, set_task_locals};

pub(crate) const CONCURRENT: usize = 64;
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

// The picture begins here.
pub(crate) fn stack(handlers: Router, idempotency: IdempotencyLayer<MemoryStore>) -> Router {
    let app = "https://app.example.com";
    let idempotency_key = HeaderName::from_static("idempotency-key");
    let cors = CorsLayer::new()
        .allow_origin([HeaderValue::from_static(app)])
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, idempotency_key])
        .expose_headers([
            HeaderName::from_static("idempotency-replayed"),
            HeaderName::from_static("idempotency-replay-body"),
            RETRY_AFTER,
        ]);

    // In each builder, the first layer is the outermost.
    let inside = ServiceBuilder::new()
        .layer(GlobalConcurrencyLimitLayer::new(CONCURRENT))
        .layer(from_fn(set_task_locals));
    let around = ServiceBuilder::new()
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(TraceLayer::new_for_http())
        .layer(cors)
        .layer(CompressionLayer::new())
        .layer(TimeoutLayer::with_status_code(
            StatusCode::GATEWAY_TIMEOUT,
            LIMIT,
        ))
        .layer(CatchPanicLayer::new())
        .layer(from_fn(redirect))
        .layer(from_fn(authenticate))
        .layer(from_fn(limit_rate))
        .layer(idempotency);
    handlers.layer(inside).layer(around)
}
// The picture ends here.
