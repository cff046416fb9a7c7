//! What the layer logs: that a caller can't be identified, once, and outages of the store; never a
//! secret.
#![cfg(feature = "tracing")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use http::Request;
use support::{Call, Director, Fault, Scripted, Step};
use tower::ServiceExt;
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{IdempotencyLayer, MemoryStore, Outcome, RecordKey, Store, Unprotected};
use tracing_subscriber::fmt::MakeWriter;

/// The lines that were logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Takes the lines of the layer.
    fn of_the_layer(&self) -> Vec<String> {
        let all = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        let lines = all
            .lines()
            .filter(|line| line.contains("tower_idempotency"));
        lines.map(str::to_owned).collect()
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

/// Logs all that comes from this thread.
fn log() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    (log, tracing::subscriber::set_default(subscriber))
}

// One test of what is logged once a process.
#[tokio::test]
async fn a_caller_that_can_not_be_identified_is_logged_once_and_a_failing_store_without_secrets() {
    let (log, _guard) = log();
    let of_the_layer = || log.of_the_layer();

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

/// Fails each step on every key but one, in the way that is set.
#[derive(Default)]
struct Outage {
    kind: Mutex<Option<StoreErrorKind>>,
    spared: Mutex<Option<RecordKey>>,
}

impl Director for Outage {
    fn fault(&self, step: &Step<'_>) -> Option<Fault> {
        let mut spared = self.spared.lock().unwrap();
        let is_spared = *spared.get_or_insert(*step.key) == *step.key;
        let kind = self.kind.lock().unwrap();
        kind.filter(|_| !is_spared).map(Fault::Fail)
    }
}

/// Fails each second `begin`, or each `complete`, in one way.
struct NowAndThen {
    call: Call,
    kind: StoreErrorKind,
    calls: AtomicUsize,
}

impl Director for NowAndThen {
    fn fault(&self, step: &Step<'_>) -> Option<Fault> {
        let is_meant = step.call == self.call;
        let number = self
            .calls
            .fetch_add(usize::from(is_meant), Ordering::SeqCst);
        let spared = self.call == Call::Begin && number % 2 == 0;
        (is_meant && !spared).then_some(Fault::Fail(self.kind))
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_now_and_then_is_one_outage() {
    let (log, _guard) = log();
    for call in [Call::Begin, Call::Complete] {
        for kind in [StoreErrorKind::Unavailable, StoreErrorKind::Full] {
            let store = Scripted::new(NowAndThen {
                call,
                kind,
                calls: AtomicUsize::new(0),
            });
            let layer = IdempotencyLayer::new(store);
            let app = Router::new().route("/vms", post(|| async { "made" }).layer(layer));
            for n in 0..100 {
                let request = Request::post("/vms")
                    .header("idempotency-key", n)
                    .header("x-api-key", "the-secret");
                let request = request.body(Body::empty()).unwrap();
                app.clone().oneshot(request).await.unwrap();
            }
            let lines = log.of_the_layer();
            let warnings = lines.iter().filter(|line| line.contains("WARN"));
            assert_eq!(warnings.count(), 1, "{call:?}, {kind:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_one_warning_when_it_begins_and_one_when_it_ends() {
    let (log, _guard) = log();
    let warnings = || {
        let lines = log.of_the_layer().into_iter();
        lines
            .filter(|line| line.contains("WARN"))
            .collect::<Vec<_>>()
    };
    let store = Scripted::new(Outage::default());
    let layer = IdempotencyLayer::new(store.clone());
    let detached = layer.detached();
    // Two services of one layer, since a router makes one for each route.
    let route = || post(|| async { "response-body" }).layer(layer.clone());
    let app = Router::new().route("/a", route()).route("/b", route());
    let send = async |path: &str, key: &str| {
        let request = Request::post(path)
            .header("idempotency-key", key)
            .header("x-api-key", "the-secret");
        let request = request.body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        Outcome::of(response.extensions())
    };
    assert_eq!(send("/a", "spared").await, Outcome::Kept);
    for (kind, end) in [
        (StoreErrorKind::Unavailable, "works again"),
        (StoreErrorKind::Timeout, "works again"),
        (StoreErrorKind::Full, "has room again"),
    ] {
        *store.director.kind.lock().unwrap() = Some(kind);
        for n in 0..100 {
            let outcome = send(["/a", "/b"][n % 2], &format!("{kind:?}-{n}")).await;
            assert_eq!(outcome, Outcome::StoreFailed(kind));
            if kind == StoreErrorKind::Full {
                // A store that is full still replays.
                assert_eq!(send("/a", "spared").await, Outcome::Replayed);
            }
        }
        let begin = warnings();
        assert_eq!(begin.len(), 1, "{begin:?}");
        let expected = "WARN tower_idempotency: the idempotency store fails";
        assert!(begin[0].contains(expected), "{begin:?}");

        *store.director.kind.lock().unwrap() = None;
        detached.wait(Duration::from_secs(600)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        for n in 0..10 {
            send("/a", &format!("{kind:?}-after-{n}")).await;
        }
        let over = warnings();
        assert_eq!(over.len(), 1, "{over:?}");
        let counts = over[0].contains("failures=");
        assert!(over[0].contains(end) && counts, "{over:?}");
    }
}
