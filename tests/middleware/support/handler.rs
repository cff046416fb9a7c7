//! A handler that counts its runs, and what it answers.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::{Layer, Service};
use tower_idempotency::{Idempotency, IdempotencyLayer, RequestBody, Store};

use super::{Frames, Gate};

/// What a handler fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) &'static str);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Failure {}

impl From<Infallible> for Failure {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

pub(crate) type Handled = Result<Response<Frames>, Failure>;

/// 201 with this JSON.
pub(crate) fn created(body: &'static str) -> Handled {
    responding(201, Frames::exact([body]))
}

pub(crate) fn responding(status: u16, body: Frames) -> Handled {
    let response = Response::builder().status(status);
    let response = response.header("content-type", "application/json");
    Ok(response.body(body).unwrap())
}

/// A handler that counts its runs, and panics if it is called without having been ready.
pub(crate) struct Handler {
    runs: Arc<AtomicUsize>,
    run: Arc<RunFn>,
    ready: bool,
}

type HandledFuture = Pin<Box<dyn Future<Output = Handled> + Send>>;
type RunFn = dyn Fn(usize, Request<RequestBody<Frames>>) -> HandledFuture + Send + Sync;

impl Handler {
    /// The function is given the number of the run, from 1, and the request.
    pub(crate) fn new<F, Fut>(run: F) -> Self
    where
        F: Fn(usize, Request<RequestBody<Frames>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Handled> + Send + 'static,
    {
        Self {
            runs: Arc::default(),
            run: Arc::new(move |number, request| Box::pin(run(number, request))),
            ready: false,
        }
    }

    /// A handler that answers at once with 201 and this body.
    pub(crate) fn creating(body: &'static str) -> Self {
        Self::new(move |_, _| async move { created(body) })
    }

    /// A handler that stops at a gate in its first run, and then answers with the run's number.
    pub(crate) fn at(gate: &Gate) -> Self {
        let gate = gate.clone();
        Self::new(move |run, _| {
            let gate = gate.clone();
            async move {
                if run == 1 {
                    gate.pass().await;
                }
                created(numbered(run))
            }
        })
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    pub(crate) fn under<St: Store>(&self, layer: &IdempotencyLayer<St>) -> Idempotency<Self, St> {
        layer.layer(self.clone())
    }
}

/// The body by which a run is told from others.
pub(crate) fn numbered(run: usize) -> &'static str {
    ["", r#"{"run":1}"#, r#"{"run":2}"#, r#"{"run":3}"#][run]
}

impl Clone for Handler {
    fn clone(&self) -> Self {
        Self {
            runs: Arc::clone(&self.runs),
            run: Arc::clone(&self.run),
            ready: false,
        }
    }
}

impl Service<Request<RequestBody<Frames>>> for Handler {
    type Response = Response<Frames>;
    type Error = Failure;
    type Future = HandledFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody<Frames>>) -> HandledFuture {
        assert!(
            std::mem::take(&mut self.ready),
            "called without being ready"
        );
        let run = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
        (self.run)(run, request)
    }
}
