//! What the layer logs: that a caller can't be told, once, and that a store failed; never a secret.
#![cfg(all(feature = "memory", feature = "tracing"))]
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use http::Request;
use tower::ServiceExt;
use tower_idempotency::store::{Begin, Claim, Owner, Ownership, Record, StoreErrorKind};
use tower_idempotency::{
    IdempotencyLayer, MemoryStore, Outcome, RecordKey, Store, StoreError, Unprotected,
};
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

/// A memory store that fails in the ways that are set.
#[derive(Default)]
struct Failing {
    memory: MemoryStore,
    kind: Mutex<Option<StoreErrorKind>>,
}

impl Failing {
    fn fail(&self, kind: Option<StoreErrorKind>) {
        *self.kind.lock().unwrap() = kind;
    }

    fn check(&self) -> Result<(), StoreError> {
        self.kind
            .lock()
            .unwrap()
            .map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl Store for Failing {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        match self.check() {
            // A store that is full still says what is there.
            Err(full) if full.kind() == StoreErrorKind::Full => {
                let begun = self.memory.begin(key, claim, lease).await?;
                if let Begin::Started = begun {
                    let _ = self.memory.release(key, claim.owner()).await?;
                    return Err(full);
                }
                Ok(begun)
            }
            Err(error) => Err(error),
            Ok(()) => self.memory.begin(key, claim, lease).await,
        }
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        self.check()?;
        self.memory.complete(key, owner, record, ttl).await
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        self.check()?;
        self.memory.renew(key, owner, lease).await
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        self.check()?;
        self.memory.release(key, owner).await
    }
}

/// A store that is down.
struct Down;

impl Down {
    fn refuse<T>() -> Result<T, StoreError> {
        let cause = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        Err(StoreError::new(StoreErrorKind::Unavailable, cause))
    }
}

impl Store for Down {
    async fn begin(&self, _: &RecordKey, _: &Claim, _: Duration) -> Result<Begin, StoreError> {
        Self::refuse()
    }

    async fn complete(
        &self,
        _: &RecordKey,
        _: Owner,
        _: &Record,
        _: Duration,
    ) -> Result<Ownership, StoreError> {
        Self::refuse()
    }

    async fn renew(&self, _: &RecordKey, _: Owner, _: Duration) -> Result<Ownership, StoreError> {
        Self::refuse()
    }

    async fn release(&self, _: &RecordKey, _: Owner) -> Result<Ownership, StoreError> {
        Self::refuse()
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

    let failed = send(Down, "the-key", Some("the-secret")).await;
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

#[tokio::test(start_paused = true)]
async fn an_outage_is_one_warning_when_it_begins_and_one_when_it_ends() {
    let (log, _guard) = log();
    let warnings = || {
        let lines = log.of_the_layer().into_iter();
        lines
            .filter(|line| line.contains("WARN"))
            .collect::<Vec<_>>()
    };
    let store = Arc::new(Failing::default());
    let layer = IdempotencyLayer::new(Arc::clone(&store));
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
    assert_eq!(send("/a", "kept before").await, Outcome::Kept);
    for (kind, end) in [
        (StoreErrorKind::Unavailable, "works again"),
        (StoreErrorKind::Timeout, "works again"),
        (StoreErrorKind::Full, "has room again"),
    ] {
        store.fail(Some(kind));
        for n in 0..100 {
            let outcome = send(["/a", "/b"][n % 2], &format!("{kind:?}-{n}")).await;
            assert_eq!(outcome, Outcome::StoreFailed(kind));
            if kind == StoreErrorKind::Full {
                assert_eq!(send("/a", "kept before").await, Outcome::Replayed);
            }
        }
        let begin = warnings();
        assert_eq!(begin.len(), 1, "{begin:?}");
        assert!(
            begin[0].contains("the idempotency store fails"),
            "{begin:?}"
        );

        store.fail(None);
        detached.wait(Duration::from_secs(600)).await.unwrap();
        for n in 0..10 {
            send("/a", &format!("{kind:?}-after-{n}")).await;
        }
        let over = warnings();
        assert_eq!(over.len(), 1, "{over:?}");
        assert!(
            over[0].contains(end) && over[0].contains("failures="),
            "{over:?}"
        );
    }
}
