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

use crate::body::Frames;
use crate::wait::Gate;

/// What a handler fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure(pub &'static str);

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

pub type Handled = Result<Response<Frames>, Failure>;

/// 201 with this JSON.
pub fn created(body: &'static str) -> Handled {
    responding(201, Frames::exact([body]))
}

pub fn responding(status: u16, body: Frames) -> Handled {
    let response = Response::builder().status(status);
    let response = response.header("content-type", "application/json");
    Ok(response.body(body).unwrap())
}

/// A handler that counts its runs, and panics if it is called without having been ready.
pub struct Handler {
    runs: Arc<AtomicUsize>,
    reserved: Arc<AtomicUsize>,
    run: Arc<RunFn>,
    ready: Option<Reserved>,
    pends: bool,
    has_pended: bool,
}

/// What a service has taken to be ready, such as a permit.
struct Reserved(Arc<AtomicUsize>);

impl Drop for Reserved {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

type HandledFuture = Pin<Box<dyn Future<Output = Handled> + Send>>;
type RunFn = dyn Fn(usize, Request<RequestBody<Frames>>) -> HandledFuture + Send + Sync;

impl Handler {
    /// The function is given the number of the run, from 1, and the request.
    pub fn new<F, Fut>(run: F) -> Self
    where
        F: Fn(usize, Request<RequestBody<Frames>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Handled> + Send + 'static,
    {
        Self {
            runs: Arc::default(),
            reserved: Arc::default(),
            run: Arc::new(move |number, request| Box::pin(run(number, request))),
            ready: None,
            pends: false,
            has_pended: false,
        }
    }

    /// A handler that answers at once with 201 and this body.
    pub fn creating(body: &'static str) -> Self {
        Self::new(move |_, _| async move { created(body) })
    }

    /// A handler that stops at a gate in its first run, and then answers with the run's number.
    pub fn at(gate: &Gate) -> Self {
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

    /// Lets each clone be pending once before it is ready.
    pub fn that_pends(self) -> Self {
        Self {
            pends: true,
            ..self
        }
    }

    /// Returns how many services are ready or running: those that hold what they were given for it.
    pub fn reserved(&self) -> usize {
        self.reserved.load(Ordering::SeqCst)
    }

    pub fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    pub fn under<St: Store>(&self, layer: &IdempotencyLayer<St>) -> Idempotency<Self, St> {
        layer.layer(self.clone())
    }
}

/// The body by which a run is recognised.
pub fn numbered(run: usize) -> &'static str {
    ["", r#"{"run":1}"#, r#"{"run":2}"#, r#"{"run":3}"#][run]
}

impl Clone for Handler {
    fn clone(&self) -> Self {
        Self {
            runs: Arc::clone(&self.runs),
            reserved: Arc::clone(&self.reserved),
            run: Arc::clone(&self.run),
            ready: None,
            pends: self.pends,
            has_pended: false,
        }
    }
}

impl Service<Request<RequestBody<Frames>>> for Handler {
    type Response = Response<Frames>;
    type Error = Failure;
    type Future = HandledFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if self.pends && !std::mem::replace(&mut self.has_pended, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.ready.is_none() {
            self.reserved.fetch_add(1, Ordering::SeqCst);
            self.ready = Some(Reserved(Arc::clone(&self.reserved)));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody<Frames>>) -> HandledFuture {
        let reserved = self.ready.take().expect("a service that is ready");
        let run = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
        let run = (self.run)(run, request);
        Box::pin(async move {
            let _reserved = reserved;
            run.await
        })
    }
}
