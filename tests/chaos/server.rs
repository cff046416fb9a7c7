//! The server: a handler that writes into a ledger, fails before it does, or dawdles.

use std::collections::HashMap;
use std::panic::panic_any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use support::{Frames, Piece};
use tokio::time::sleep;

use crate::plan::{self, FRAME, Failure, Plan};

pub(crate) struct Server {
    pub(crate) seed: u64,
    /// The operation that each entry is of.
    pub(crate) ledger: Mutex<Vec<u64>>,
    runs: Mutex<HashMap<u64, usize>>,
    pub(crate) panics: AtomicUsize,
    pub(crate) broken_bodies: AtomicUsize,
    pub(crate) torn_uploads: AtomicUsize,
}

/// What a handler panics with.
pub(crate) struct Planned;

impl Server {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            seed,
            ledger: Mutex::default(),
            runs: Mutex::default(),
            panics: AtomicUsize::new(0),
            broken_bodies: AtomicUsize::new(0),
            torn_uploads: AtomicUsize::new(0),
        })
    }

    pub(crate) fn router(self: &Arc<Self>) -> Router {
        let routes = Router::new().route("/operations", post(operate));
        routes.with_state(Arc::clone(self))
    }

    fn fail(&self, how: Failure) -> Response {
        let breaks = |size| {
            self.broken_bodies.fetch_add(1, Ordering::Relaxed);
            let pieces = [
                Piece::Pend,
                Piece::Data("cut off"),
                Piece::Pend,
                Piece::Break,
            ];
            Response::new(Body::new(Frames::unknown(pieces).that_promises(size)))
        };
        match how {
            Failure::Panic => {
                self.panics.fetch_add(1, Ordering::Relaxed);
                panic_any(Planned)
            }
            Failure::BrokenBody => breaks(None),
            Failure::BrokenExactBody => breaks(Some(1_000)),
            Failure::Unavailable => answer(StatusCode::SERVICE_UNAVAILABLE, Body::empty()),
        }
    }
}

async fn operate(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    upload: Result<Bytes, BytesRejection>,
) -> Response {
    let operation = headers["x-operation"].to_str().unwrap().parse().unwrap();
    let plan = Plan::new(server.seed, operation);
    if upload.is_err() {
        server.torn_uploads.fetch_add(1, Ordering::Relaxed);
        return answer(StatusCode::BAD_REQUEST, Body::from("the upload broke"));
    }
    let run = {
        let mut runs = server.runs.lock().unwrap();
        let run = runs.entry(operation).or_default();
        *run += 1;
        *run
    };
    sleep(plan.before_effect).await;
    if run <= plan.failures {
        return server.fail(plan.failure);
    }
    let entry = {
        let mut ledger = server.ledger.lock().unwrap();
        ledger.push(operation);
        ledger.len() - 1
    };
    sleep(plan.after_effect).await;
    let bytes = Bytes::from(plan.body.write(operation, entry));
    let body = match plan.body {
        plan::Body::Exact(_) => Body::from(bytes),
        plan::Body::Frames(_) => Body::new(frames(&bytes, plan.before_end)),
    };
    let mut response = answer(StatusCode::CREATED, body);
    response.headers_mut().insert("x-entry", entry.into());
    response
}

fn answer(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// A body that comes in frames, one each time that it is woken, and pauses before the last.
fn frames(bytes: &Bytes, pause: Duration) -> Frames {
    let chunks: Vec<_> = bytes.chunks(FRAME).collect();
    let mut pieces = Vec::new();
    for (n, chunk) in chunks.iter().enumerate() {
        if n + 1 == chunks.len() && !pause.is_zero() {
            pieces.push(Piece::Until(Box::pin(sleep(pause))));
        }
        pieces.extend([Piece::Pend, Piece::Bytes(bytes.slice_ref(chunk))]);
    }
    pieces.push(Piece::Pend);
    Frames::unknown(pieces)
}
