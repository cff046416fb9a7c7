//! Tokens, keys and request bodies show up nowhere: not in logs, debug forms, errors or the store.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

#[path = "input/check/script.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the property tests")]
mod script;

use std::collections::BTreeSet;
use std::fmt::{Debug, Display};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_idempotency::store::{
    Begin, Claim, DynStore, Fingerprint, MalformedRecord, Owner, Ownership, Record, StoreErrorKind,
};
use tower_idempotency::{
    CallerId, DoNotKeep, IdempotencyKey, IdempotencyLayer, InvalidKey, MemoryStore, Outcome,
    RecordKey, RequestBody, Store, StoreError,
};

use self::script::{Play, Script, read};

const TOKEN: &str = "Bearer t0ken-of-Alice-7f3a";
const API_KEY: &str = "ap1-key-of-Alice-9c41";
const KEY: &str = "0rder-4711-of-Alice-b25d";
const BODY: &str = "card=4242-4242-4242-4242&cvc=987";
const TARGET: &str = "/pay?access_token=q0ery-of-Alice-51fe";
const SECRETS: [&str; 5] = [TOKEN, API_KEY, KEY, BODY, TARGET];

/// All that an onlooker gets to see.
#[derive(Clone, Default)]
struct Onlooker(Arc<Mutex<Vec<u8>>>);

impl Onlooker {
    fn see(&self, bytes: impl AsRef<[u8]>) {
        let mut seen = self.0.lock().unwrap();
        seen.extend_from_slice(bytes.as_ref());
        seen.push(b'\n');
    }

    fn debug(&self, value: impl Debug) {
        self.see(format!("{value:?} {value:#?}"));
    }

    fn both(&self, value: impl Debug + Display) {
        self.see(value.to_string());
        self.debug(value);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Eight bytes of a secret in a row, as text, as hexadecimal digits or as a list of numbers,
    /// are too many.
    fn assert_no_secrets(&self) {
        let seen = self.0.lock().unwrap().to_ascii_lowercase();
        for secret in SECRETS {
            for part in secret.to_ascii_lowercase().as_bytes().windows(8) {
                let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
                let list = format!("{part:?}");
                for form in [
                    part,
                    hex.as_bytes(),
                    list.trim_matches(['[', ']']).as_bytes(),
                ] {
                    let at = seen.windows(form.len()).position(|window| window == form);
                    let around = at.map(|at| {
                        let context = &seen[at.saturating_sub(120)..seen.len().min(at + 120)];
                        String::from_utf8_lossy(context)
                    });
                    assert_eq!(around, None, "a part of {secret:?} was seen");
                }
            }
        }
    }
}

impl io::Write for Onlooker {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the store does with the calls that it gets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Works,
    Fails(StoreErrorKind),
    /// Claims, and fails from then on.
    FailsAfterBegin,
    Hangs,
    /// Claims, and knows nothing of it from then on.
    Forgets,
}

/// A store that shows an onlooker all that it is given and all that it gives.
#[derive(Clone)]
struct Watched {
    inner: MemoryStore,
    onlooker: Onlooker,
    mode: Mode,
}

impl Watched {
    async fn fault(&self, is_begin: bool) -> Result<Option<Ownership>, StoreError> {
        match self.mode {
            Mode::Works => Ok(None),
            Mode::FailsAfterBegin | Mode::Forgets if is_begin => Ok(None),
            Mode::Forgets => Ok(Some(Ownership::Lost)),
            Mode::Fails(kind) => Err(StoreError::new(kind, "connection refused")),
            Mode::FailsAfterBegin => Err(StoreErrorKind::Unavailable.into()),
            Mode::Hangs => std::future::pending().await,
        }
    }
}

impl Store for Watched {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        self.onlooker.both(key);
        self.onlooker.see(key.as_bytes());
        self.onlooker.debug(claim);
        self.onlooker.see(claim.owner().as_bytes());
        self.onlooker.see(claim.fingerprint().as_bytes());
        self.fault(true).await?;
        let begin = self.inner.begin(key, claim, lease).await;
        self.onlooker.debug(&begin);
        begin
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        self.onlooker.debug(record);
        self.onlooker.see(record.as_bytes());
        match self.fault(false).await? {
            Some(held) => Ok(held),
            None => self.inner.complete(key, owner, record, ttl).await,
        }
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        match self.fault(false).await? {
            Some(held) => Ok(held),
            None => self.inner.renew(key, owner, lease).await,
        }
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        match self.fault(false).await? {
            Some(held) => Ok(held),
            None => self.inner.release(key, owner).await,
        }
    }
}

/// A handler that reads the upload and answers with something of its own.
#[derive(Clone)]
struct Handler {
    status: u16,
    body: Script,
    takes: Duration,
    do_not_keep: bool,
}

impl Handler {
    fn new(status: u16, body: Script) -> Self {
        let takes = Duration::ZERO;
        let do_not_keep = false;
        Self {
            status,
            body,
            takes,
            do_not_keep,
        }
    }
}

/// One store, and the requests that it is to see.
struct World {
    onlooker: Onlooker,
    outcomes: BTreeSet<&'static str>,
}

impl World {
    fn layer(&self, mode: Mode) -> IdempotencyLayer<Watched> {
        IdempotencyLayer::new(Watched {
            inner: MemoryStore::new(),
            onlooker: self.onlooker.clone(),
            mode,
        })
        .max_response_bytes(64)
    }

    async fn send(
        &mut self,
        layer: &IdempotencyLayer<Watched>,
        request: Request<Script>,
        handler: &Handler,
    ) {
        let (handler, onlooker) = (handler.clone(), self.onlooker.clone());
        let mut service = layer.layer(service_fn(move |request: Request<RequestBody<Script>>| {
            let (handler, onlooker) = (handler.clone(), onlooker.clone());
            async move {
                onlooker.debug(request.extensions());
                onlooker.debug(request.extensions().get::<IdempotencyKey>());
                onlooker.debug(request.body());
                read(request.into_body()).await;
                tokio::time::sleep(handler.takes).await;
                let mut response = Response::new(handler.body);
                *response.status_mut() = StatusCode::from_u16(handler.status).unwrap();
                if handler.do_not_keep {
                    response.extensions_mut().insert(DoNotKeep);
                }
                Ok::<_, &'static str>(response)
            }
        }));
        self.onlooker.debug(layer);
        let future = service.ready().await.unwrap().call(request);
        self.onlooker.debug(&future);
        let response = future.await.unwrap();
        let outcome = Outcome::of(response.extensions());
        self.onlooker.both(outcome);
        self.onlooker.debug(&response);
        self.onlooker.see(read(response.into_body()).await.data);
        self.outcomes.insert(outcome.as_str());
    }

    /// Sends a usual request to a handler that gives a usual answer.
    async fn post(&mut self, layer: &IdempotencyLayer<Watched>) {
        self.send(
            layer,
            request("POST", &[KEY]),
            &Handler::new(201, sized("made")),
        )
        .await;
    }

    async fn answer(&mut self, handler: &Handler) {
        self.send(&self.layer(Mode::Works), request("POST", &[KEY]), handler)
            .await;
    }
}

fn sized(data: &'static str) -> Script {
    Script::of(data.as_bytes())
}

fn request(method: &str, keys: &[&str]) -> Request<Script> {
    let mut request = Request::builder().method(method).uri(TARGET);
    request = request
        .header("authorization", TOKEN)
        .header("x-api-key", API_KEY);
    for key in keys {
        request = request.header("idempotency-key", *key);
    }
    request.body(sized(BODY)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn no_outcome_shows_a_token_a_key_or_a_body() {
    let onlooker = Onlooker::default();
    let _logs = log_to(&onlooker);
    let mut world = World {
        onlooker: onlooker.clone(),
        outcomes: BTreeSet::new(),
    };

    // Kept, replayed, reused, and refused.
    let works = world.layer(Mode::Works);
    world.post(&works).await;
    world.post(&works).await;
    let usual = Handler::new(200, sized("fine"));
    for (method, keys) in [
        ("GET", &[KEY][..]),
        ("PUT", &[KEY]),
        ("POST", &[]),
        ("POST", &[""]),
        ("POST", &[KEY, KEY]),
        ("POST", &[&KEY.repeat(12)]),
        ("POST", &[&format!("{KEY}\t")]),
    ] {
        world.send(&works, request(method, keys), &usual).await;
    }
    world
        .send(
            &works.clone().require_key(true),
            request("POST", &[]),
            &usual,
        )
        .await;
    world
        .send(
            &works.clone().caller(|_| None),
            request("POST", &[KEY]),
            &usual,
        )
        .await;

    // Not kept, or not as a whole.
    let long = "a body that is longer than what is kept, which are 64 bytes in this test";
    let breaks = || {
        Script::new(
            false,
            [Play::Data(Bytes::from_static(b"half")), Play::Break],
        )
    };
    world.answer(&Handler::new(503, sized("later"))).await;
    world
        .answer(&Handler {
            do_not_keep: true,
            ..usual.clone()
        })
        .await;
    world.answer(&Handler::new(200, sized(long))).await;
    world.answer(&Handler::new(200, breaks())).await;
    world
        .answer(&Handler::new(
            200,
            Script {
                is_sized: true,
                ..breaks()
            },
        ))
        .await;
    let half = Script::new(
        true,
        [Play::Data(Bytes::from_static(BODY.as_bytes())), Play::Break],
    );
    let torn = request("POST", &[KEY]).map(|_| half);
    world.send(&world.layer(Mode::Works), torn, &usual).await;

    // A store that fails in each way, at each step; the handler is slow, so the lease is renewed.
    let slow = Handler {
        takes: Duration::from_secs(100),
        ..usual.clone()
    };
    for mode in [
        Mode::Fails(StoreErrorKind::Unavailable),
        Mode::Fails(StoreErrorKind::Timeout),
        Mode::Fails(StoreErrorKind::Full),
        Mode::Fails(StoreErrorKind::Corrupt),
        Mode::FailsAfterBegin,
        Mode::Hangs,
        Mode::Forgets,
    ] {
        let layer = world.layer(mode);
        world.send(&layer, request("POST", &[KEY]), &slow).await;
        let not_kept = Handler {
            status: 503,
            ..slow.clone()
        };
        world
            .send(&layer, request("POST", &["another-key"]), &not_kept)
            .await;
        layer
            .detached()
            .wait(Duration::from_secs(600))
            .await
            .unwrap();
    }

    // One that is still running, and whose client leaves.
    let layer = world.layer(Mode::Works);
    let running = world.send(&layer, request("POST", &[KEY]), &slow);
    tokio::time::timeout(Duration::from_secs(1), running)
        .await
        .unwrap_err();
    world.post(&layer).await;
    onlooker.debug(layer.detached());
    onlooker.both(
        layer
            .detached()
            .wait(Duration::from_millis(1))
            .await
            .unwrap_err(),
    );
    layer
        .detached()
        .wait(Duration::from_secs(600))
        .await
        .unwrap();

    let every: BTreeSet<_> = OUTCOMES.into_iter().collect();
    assert_eq!(world.outcomes, every);
    let logs = onlooker.text();
    for event in EVENTS {
        assert_eq!(
            logs.contains(event),
            cfg!(feature = "tracing"),
            "{event:?} in the log"
        );
    }
    onlooker.assert_no_secrets();
}

#[test]
fn no_public_value_shows_a_token_a_key_or_a_body() {
    let onlooker = Onlooker::default();
    let request = request("POST", &[KEY]);
    let caller = CallerId::from_credentials(request.headers()).unwrap();
    let key = IdempotencyKey::new(KEY).unwrap();
    let fingerprint = Fingerprint::new(request.method(), request.uri());
    onlooker.debug(caller);
    onlooker.debug(CallerId::new(TOKEN));
    onlooker.see(caller.as_bytes());
    onlooker.both(RecordKey::new(&caller, &key));
    onlooker.debug(&key);
    onlooker.debug(fingerprint);
    // A response that does hold a secret is kept, and still is not shown.
    let headers = [(&http::header::LOCATION, &TARGET.parse().unwrap())];
    let record = Record::new(fingerprint, StatusCode::OK, headers, Some(BODY.as_bytes()));
    onlooker.debug(&record);
    onlooker.debug(Begin::Completed(record));
    onlooker.both(MalformedRecord);
    for invalid in [
        IdempotencyKey::new(KEY.repeat(12)).unwrap_err(),
        IdempotencyKey::new(format!("{KEY}\n")).unwrap_err(),
        InvalidKey::Repeated,
    ] {
        onlooker.both(invalid);
    }
    let store = MemoryStore::new();
    onlooker.debug(&store);
    onlooker.debug(DynStore::new(store));
    onlooker.assert_no_secrets();
}

#[test]
#[should_panic(expected = "a part of \"0rder-4711-of-Alice-b25d\" was seen")]
fn an_onlooker_who_sees_a_part_of_a_key_is_noticed() {
    let onlooker = Onlooker::default();
    onlooker.debug(&KEY.as_bytes()[3..14]);
    onlooker.assert_no_secrets();
}

/// Writes all that is logged in this thread, which is where the runtime runs.
fn log_to(onlooker: &Onlooker) -> tracing::subscriber::DefaultGuard {
    let writer = onlooker.clone();
    let logs = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_default(logs)
}

/// Each outcome that there is.
const OUTCOMES: [&str; 17] = [
    "passed_through_method",
    "passed_through_no_key",
    "passed_through_no_caller",
    "kept",
    "kept_without_body",
    "recording",
    "not_kept_rule",
    "not_kept_do_not_keep",
    "not_kept_broken_upload",
    "not_kept_broken_body",
    "not_kept_lease_lost",
    "store_failed",
    "replayed",
    "in_progress",
    "key_reused",
    "missing_key",
    "invalid_key",
];

/// A word of each log event that there is.
const EVENTS: [&str; 8] = [
    "goes through unprotected",
    "step=\"begin\"",
    "step=\"renew\"",
    "step=\"complete\"",
    "step=\"release\"",
    "connection refused",
    "the lease of an idempotency key was lost",
    "the client left",
];
