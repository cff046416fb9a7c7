//! The same axum handler, bare and behind each of the layers that are compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::COOKIE;
use axum::http::{HeaderValue, Method, Request, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use http_body_util::BodyExt;
use serde::Serialize;
use tower::ServiceExt;

/// One row of the table: a name, and the handler behind what the name says.
#[derive(Clone)]
pub struct Contender {
    pub name: &'static str,
    pub app: Router,
    /// How often the slow handler has run.
    pub runs: Arc<AtomicUsize>,
    cookie: Option<HeaderValue>,
}

/// Makes all contenders anew, in the order of the table.
pub async fn all() -> Vec<Contender> {
    let mut all = Vec::new();
    for name in NAMES {
        all.push(one(name).await);
    }
    all
}

pub const NAMES: [&str; 6] = [
    "bare handler",
    "identity layer",
    "tower-idempotency",
    "idempotent 2.0",
    "axum-idempotent 0.6",
    "rustango 0.62",
];

/// Makes one contender anew.
pub async fn one(name: &str) -> Contender {
    let name = NAMES
        .into_iter()
        .find(|known| *known == name)
        .expect("a known contender");
    let runs = Arc::new(AtomicUsize::new(0));
    let handlers = handlers(Arc::clone(&runs));
    let app = match name {
        "bare handler" => handlers,
        "identity layer" => handlers.layer(tower_layer::Identity::new()),
        "tower-idempotency" => handlers.layer(ours()),
        "idempotent 2.0" => handlers.layer(idempotent()),
        "axum-idempotent 0.6" => axum_idempotent(handlers),
        "rustango 0.62" => rustango(handlers),
        _ => unreachable!("every name has an arm"),
    };
    let cookie = session(&app).await;
    Contender {
        name,
        app,
        runs,
        cookie,
    }
}

impl Contender {
    /// Makes a request of this method with this idempotency key.
    pub fn request(&self, method: Method, path: &str, key: &str) -> Request<Body> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-api-key", "sk_test_4eC39HqLyjWDarjtT1zdp7dc")
            .header("idempotency-key", key)
            .header("content-type", "application/json")
            .body(Body::from(Bytes::from_static(REQUEST_BODY)))
            .expect("a valid request");
        if let Some(cookie) = &self.cookie {
            request.headers_mut().insert(COOKIE, cookie.clone());
        }
        request
    }
}

fn handlers(runs: Arc<AtomicUsize>) -> Router {
    let slow = move || {
        let runs = Arc::clone(&runs);
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            created().await
        }
    };
    Router::new()
        .route("/vms", get(created).post(created))
        .route("/slow", post(slow))
        .route("/session", post(open_session))
}

/// Answers 201 with 256 bytes of JSON.
async fn created() -> impl IntoResponse {
    (StatusCode::CREATED, Json(Vm::new()))
}

#[derive(Serialize)]
struct Vm {
    id: &'static str,
    name: &'static str,
    region: &'static str,
    image: &'static str,
    cores: u32,
    memory_mib: u32,
    disk_gib: u32,
    state: &'static str,
    note: &'static str,
}

impl Vm {
    fn new() -> Self {
        Self {
            id: "vm_01JD9Z6T6M2K8Q4R7X0V5N3B1C",
            name: "build-runner-17",
            region: "eu-central-1",
            image: "debian-12-x86_64",
            cores: 4,
            memory_mib: 8192,
            disk_gib: 80,
            state: "provisioning",
            note: "created for the nightly build; removed when idle",
        }
    }
}

fn ours() -> tower_idempotency::IdempotencyLayer<tower_idempotency::MemoryStore> {
    // The limit is out of the way, as the others have none.
    let store = tower_idempotency::MemoryStore::new().max_bytes(usize::MAX);
    tower_idempotency::IdempotencyLayer::new(store)
}

fn idempotent() -> idempotent::middleware::IdempotencyLayer<idempotent::memory::MemoryStore> {
    let store = idempotent::memory::MemoryStore::builder()
        .try_build()
        .expect("a store");
    idempotent::middleware::IdempotencyLayer::new(store).scope(|parts| {
        let key = parts.headers.get("x-api-key")?;
        key.to_str().ok().map(str::to_owned)
    })
}

fn axum_idempotent(handlers: Router) -> Router {
    use ruts::store::moka::MokaStore;

    let options = axum_idempotent::IdempotentOptions::default()
        .use_idempotency_key_header(Some("idempotency-key"), true)
        .expire_after(24 * 60 * 60);
    let cookie = ruts::CookieOptions::build()
        .name("session")
        .max_age(24 * 60 * 60)
        .path("/");
    handlers
        .layer(axum_idempotent::IdempotentLayer::<MokaStore>::new(options))
        .layer(
            ruts::SessionLayer::new(Arc::new(MokaStore::builder().build()))
                .with_cookie_options(cookie),
        )
        .layer(tower_cookies::CookieManagerLayer::new())
}

fn rustango(handlers: Router) -> Router {
    use rustango::idempotency::{IdempotencyLayer, IdempotencyRouterExt};

    let cache: rustango::cache::BoxedCache = Arc::new(rustango::cache::InMemoryCache::new());
    handlers.idempotency(IdempotencyLayer::new(cache))
}

/// Opens a session, which one of the contenders keeps its records in; the others have none.
async fn open_session(session: Result<Session, SessionRejection>) -> StatusCode {
    if let Ok(session) = session {
        let ttl = ruts::store::Ttl::new(24 * 60 * 60).expect("a valid ttl");
        session
            .set("user", &"alice", ttl, None)
            .await
            .expect("a session");
    }
    StatusCode::NO_CONTENT
}

type Session = ruts::Session<ruts::store::moka::MokaStore>;
type SessionRejection = <Session as axum::extract::FromRequestParts<()>>::Rejection;

async fn session(app: &Router) -> Option<HeaderValue> {
    let request = Request::post("/session")
        .header("idempotency-key", "session")
        .body(Body::empty())
        .expect("a valid request");
    let response = app.clone().oneshot(request).await.expect("an answer");
    let cookie = response.headers().get("set-cookie").cloned();
    let _ = response.into_body().collect().await;
    let cookie = cookie?;
    let pair = cookie.to_str().ok()?.split(';').next()?;
    HeaderValue::from_str(pair).ok()
}

const REQUEST_BODY: &[u8] =
    br#"{"image":"debian-12-x86_64","cores":4,"memory_mib":8192,"disk":80}"#;
