//! What the layer logs: that a caller can't be told, once, and that a store failed; never a secret.
#![cfg(feature = "tracing")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use http::Request;
use support::{Call, Fault, Scripted};
use tower::ServiceExt;
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{IdempotencyLayer, MemoryStore, Outcome, Store, Unprotected};
use tracing_subscriber::fmt::MakeWriter;

/// The lines that were logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Sends a write through a layer, and returns what became of it.
async fn send<St: Store>(store: St, key: &str, credential: Option<&str>) -> Outcome {
    let app = Router::new()
        .route("/vms", post(|| async { "response-body" }))
        .layer(IdempotencyLayer::new(store));
    let mut request = Request::post("/vms").header("idempotency-key", key);
    if let Some(credential) = credential {
        request = request.header("x-api-key", credential);
    }
    let response = app.oneshot(request.body(Body::empty()).unwrap()).await;
    Outcome::of(response.unwrap().extensions())
}

// One test, since the first warning is told once a process.
#[tokio::test]
async fn a_caller_that_can_not_be_told_is_logged_once_and_a_failing_store_without_secrets() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let of_the_layer = || {
        let all = log.take();
        let lines = all
            .lines()
            .filter(|line| line.contains("tower_idempotency"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };

    for round in 0..3 {
        let outcome = send(MemoryStore::new(), "the-key", None).await;
        assert_eq!(outcome, Outcome::PassedThrough(Unprotected::NoCaller));
        let lines = of_the_layer();
        assert_eq!(lines.len(), usize::from(round == 0), "{lines:?}");
        assert!(
            lines
                .iter()
                .all(|line| line.contains("WARN") && line.contains("caller"))
        );
    }

    let kept = send(MemoryStore::new(), "the-key", Some("the-secret")).await;
    assert_eq!(kept, Outcome::Kept);
    assert_eq!(of_the_layer(), [""; 0], "what goes well is not logged");

    let down = Scripted::default();
    down.always(Call::Begin, Fault::Fail(StoreErrorKind::Unavailable));
    let failed = send(down, "the-key", Some("the-secret")).await;
    assert_eq!(failed, Outcome::StoreFailed(StoreErrorKind::Unavailable));
    let lines = of_the_layer();
    assert!(
        lines[0].contains("WARN") && lines[0].contains("begin"),
        "{lines:?}"
    );
    assert!(lines[0].contains("connection refused"), "{lines:?}");
    for secret in ["the-key", "the-secret", "response-body"] {
        assert!(!lines.concat().contains(secret), "{lines:?}");
    }
}
