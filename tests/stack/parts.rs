//! The parts of the stack that an application writes itself, and the handlers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::{Extension, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use http::header::{AUTHORIZATION, RETRY_AFTER};
use tokio::sync::Semaphore;
use tower_idempotency::CallerId;

/// What the handlers and the middleware of one test share.
pub(crate) struct Api {
    /// Credentials, and whose they are.
    pub(crate) users: Mutex<BTreeMap<String, &'static str>>,
    /// How many requests may still come, whoever sends them.
    pub(crate) quota: AtomicUsize,
    /// How often a handler has run.
    pub(crate) runs: AtomicUsize,
    /// Whether the handler that panics once has done so.
    panicked: AtomicBool,
    /// How many handlers run now, and the most that did at once.
    running: AtomicUsize,
    pub(crate) most_running: AtomicUsize,
    /// A permit is added by each handler that gets to the gate.
    pub(crate) reached: Semaphore,
    /// A permit lets a handler through the gate.
    pub(crate) gate: Semaphore,
}

/// Who sends a request, as `authenticate` found out.
#[derive(Clone, Copy)]
pub(crate) struct User(pub(crate) &'static str);

tokio::task_local! {
    /// What handlers expect of the middleware around them.
    pub(crate) static TENANT: &'static str;
}

impl Api {
    pub(crate) fn new() -> Arc<Self> {
        let users = [("Bearer alice-1", "alice"), ("Bearer bob-1", "bob")];
        Arc::new(Self {
            users: Mutex::new(users.map(|(token, user)| (token.to_owned(), user)).into()),
            quota: AtomicUsize::new(1_000),
            runs: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            reached: Semaphore::new(0),
            gate: Semaphore::new(0),
        })
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    /// Waits until this many handlers have got to the gate since the last time.
    pub(crate) async fn reached(&self, handlers: u32) {
        self.reached.acquire_many(handlers).await.unwrap().forget();
    }

    /// Counts a run, and returns its number.
    fn run(&self) -> usize {
        self.runs.fetch_add(1, Ordering::SeqCst) + 1
    }

    async fn pass_gate(&self) {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(running, Ordering::SeqCst);
        self.reached.add_permits(1);
        self.gate.acquire().await.unwrap().forget();
        self.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The handlers, without any layer.
pub(crate) fn handlers() -> Router {
    Router::new()
        .route("/vms", post(create))
        .route("/slow", post(slow))
        .route("/tenant", post(tenant))
        .route("/panic", post(panics_once))
}

/// Gives the layers and the handlers what they share.
pub(crate) fn sharing(app: Router, api: &Arc<Api>) -> Router {
    app.layer(Extension(Arc::clone(api)))
}

async fn create(Extension(api): Extension<Arc<Api>>) -> Response {
    // Long enough to be worth compressing.
    let vm = serde_json::json!({ "run": api.run(), "name": "web-1 ".repeat(50) });
    (StatusCode::CREATED, Json(vm)).into_response()
}

async fn slow(Extension(api): Extension<Arc<Api>>) -> Response {
    let run = api.run();
    api.pass_gate().await;
    (StatusCode::CREATED, format!("run {run}")).into_response()
}

async fn tenant(Extension(api): Extension<Arc<Api>>) -> Response {
    let run = api.run();
    api.pass_gate().await;
    // Asked for when the client may have left.
    let tenant = TENANT.try_with(|tenant| *tenant).unwrap_or("nobody");
    (StatusCode::CREATED, format!("run {run} for {tenant}")).into_response()
}

async fn panics_once(Extension(api): Extension<Arc<Api>>) -> Response {
    let run = api.run();
    let panicked = api.panicked.swap(true, Ordering::SeqCst);
    assert!(panicked, "the first run panics");
    (StatusCode::CREATED, format!("run {run}")).into_response()
}

/// Sends what has an old path to the new one.
pub(crate) async fn redirect(request: Request, next: Next) -> Response {
    match request.uri().path() {
        "/old-vms" => Redirect::permanent("/vms").into_response(),
        _ => next.run(request).await,
    }
}

/// Lets only known credentials through.
pub(crate) async fn authenticate(
    Extension(api): Extension<Arc<Api>>,
    mut request: Request,
    next: Next,
) -> Response {
    let token = request.headers().get(AUTHORIZATION);
    let token = token.and_then(|token| token.to_str().ok());
    let user = token.and_then(|token| api.users.lock().unwrap().get(token).copied());
    let Some(user) = user else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    request.extensions_mut().insert(User(user));
    next.run(request).await
}

/// Lets as many requests through as the quota has left.
pub(crate) async fn limit_rate(
    Extension(api): Extension<Arc<Api>>,
    request: Request,
    next: Next,
) -> Response {
    let take = |left: usize| left.checked_sub(1);
    match api
        .quota
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
    {
        Ok(_) => next.run(request).await,
        Err(_) => (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "60")]).into_response(),
    }
}

/// Sets what the handlers expect to find.
pub(crate) async fn set_task_locals(request: Request, next: Next) -> Response {
    TENANT.scope("a tenant", next.run(request)).await
}

/// The caller as `authenticate` found out.
pub(crate) fn caller(parts: &http::request::Parts) -> Option<CallerId> {
    let User(user) = parts.extensions.get()?;
    Some(CallerId::new(user))
}
