//! A handler behind the layer, and requests to it.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response};
use support::{Answer, Failure, keyed, soon};
use tower::{Layer, ServiceExt, service_fn};
use tower_idempotency::store::TransactionalStore;
use tower_idempotency::{
    IdempotencyKey, IdempotencyLayer, RequestBody, Transactional, TransactionalError,
};

use super::bank::Bank;
use super::fallible::Fallible;

/// An API of one handler that pays.
pub(crate) struct App<B: Bank> {
    pub(crate) bank: Arc<B>,
    pub(crate) store: Fallible<B::Store>,
    pub(crate) layer: IdempotencyLayer<Fallible<B::Store>>,
    handler: Arc<HandlerFn<B>>,
    runs: Arc<AtomicUsize>,
}

/// What a handler is called with.
pub(crate) struct Run<B: Bank> {
    pub(crate) bank: Arc<B>,
    pub(crate) store: Fallible<B::Store>,
    pub(crate) keep: Transactional<Fallible<B::Store>>,
    pub(crate) key: String,
    /// From 1.
    pub(crate) number: usize,
    pub(crate) body: Mutex<Option<RequestBody<Body>>>,
}

/// The answer to come.
type Sent = Pin<Box<dyn Future<Output = Result<Answer<Bytes>, Failure>> + Send>>;
pub(crate) type Handled = Result<Response<Body>, Failure>;
type HandlerFn<B> = dyn Fn(Run<B>) -> HandledFuture + Send + Sync;
type HandledFuture = Pin<Box<dyn Future<Output = Handled> + Send>>;

impl<B: Bank> App<B> {
    pub(crate) fn new<F, Fut>(bank: &Arc<B>, handler: F) -> Self
    where
        F: Fn(Run<B>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Handled> + Send + 'static,
    {
        let store = Fallible::new(bank.store().clone());
        let layer = IdempotencyLayer::new(store.clone())
            // So patient that a busy machine does not count as a store that fails.
            .store_timeout(Duration::from_secs(20))
            .transactional();
        Self {
            bank: Arc::clone(bank),
            store,
            layer,
            handler: Arc::new(move |run| Box::pin(handler(run))),
            runs: Arc::default(),
        }
    }

    /// Changes the layer's settings.
    pub(crate) fn with(
        mut self,
        change: impl FnOnce(
            IdempotencyLayer<Fallible<B::Store>>,
        ) -> IdempotencyLayer<Fallible<B::Store>>,
    ) -> Self {
        self.layer = change(self.layer);
        self
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    /// Sends a write under a key, and reads the answer.
    pub(crate) fn send(&self, key: &str) -> Sent {
        self.send_request(request(key, Body::from("{}")))
    }

    pub(crate) fn send_request(&self, request: Request<Body>) -> Sent {
        let (bank, handler) = (Arc::clone(&self.bank), Arc::clone(&self.handler));
        let (store, runs) = (self.store.clone(), Arc::clone(&self.runs));
        let service = service_fn(move |request: Request<RequestBody<Body>>| {
            let extensions = request.extensions();
            let keep = extensions.get::<Transactional<Fallible<B::Store>>>();
            let key = extensions.get::<IdempotencyKey>();
            handler(Run {
                bank: Arc::clone(&bank),
                store: store.clone(),
                keep: keep.expect("in each request").clone(),
                key: key.map_or("none", IdempotencyKey::as_str).to_owned(),
                number: runs.fetch_add(1, Ordering::SeqCst) + 1,
                body: Mutex::new(Some(request.into_body())),
            })
        });
        // Boxed by itself, or the compiler can't see that what holds it can be sent.
        let response: Pin<Box<dyn Future<Output = Result<_, Failure>> + Send>> =
            Box::pin(self.layer.layer(service).oneshot(request));
        Box::pin(async move {
            let answer = Answer::<Bytes>::read(soon(response).await?).await;
            Ok(answer.expect("a whole body"))
        })
    }
}

pub(crate) fn request(key: &str, body: Body) -> Request<Body> {
    keyed(Method::POST, "/payments", "secret", key, body)
}

impl<B: Bank> Run<B> {
    /// Begins a transaction, and pays in it.
    pub(crate) async fn pay(&self) -> B::Tx {
        let mut tx = self.bank.begin().await.unwrap();
        B::pay(&mut tx, &self.key).await.unwrap();
        tx
    }

    /// Pays, and keeps the answer.
    pub(crate) async fn pay_and_keep(&self) -> Result<(B::Tx, Response<Body>), Response<Body>> {
        let mut tx = self.pay().await;
        let response = self.keep_in(&mut tx, created(self.number)).await?;
        Ok((tx, response))
    }

    /// Keeps an answer, or returns what the error says to answer.
    pub(crate) async fn keep_in(
        &self,
        tx: &mut B::Tx,
        response: Response<Body>,
    ) -> Result<Response<Body>, Response<Body>> {
        Ok(self.try_to_keep_in(tx, response).await?)
    }

    pub(crate) async fn try_to_keep_in(
        &self,
        tx: &mut B::Tx,
        response: Response<Body>,
    ) -> Result<Response<Body>, TransactionalError> {
        fn connection<S, C>(connection: &mut C) -> &mut S::Connection<'_>
        where
            S: for<'c> TransactionalStore<Connection<'c> = C>,
        {
            connection
        }
        let connection = connection::<Fallible<B::Store>, B::Connection>(tx);
        self.keep.in_transaction(connection, response).await
    }
}

/// The answer of a run that has paid.
pub(crate) fn created(number: usize) -> Response<Body> {
    respond(201, Body::from(format!("{{\"run\":{number}}}")))
}

pub(crate) fn respond(status: u16, body: Body) -> Response<Body> {
    let response = Response::builder().status(status);
    let response = response.header("content-type", "application/json");
    response.body(body).unwrap()
}
