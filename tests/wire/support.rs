//! A server on a port of its own, and clients that talk to it.

mod clock;
mod frames;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::support::{keyed, serve};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as Pool, Error as SendError};
use hyper_util::rt::TokioExecutor;
use tower_idempotency::{IdempotencyLayer, MemoryStore};

pub(crate) use ::support::{Raw, soon, until};

pub(crate) use self::clock::StoppedClock;
pub(crate) use self::frames::{FrameSender, Frames, broken, data};

pub(crate) type Answer = ::support::Answer<Bytes>;
pub(crate) type Layer = IdempotencyLayer<MemoryStore>;

pub(crate) fn layer() -> Layer {
    IdempotencyLayer::new(MemoryStore::new())
}

/// An axum server with one handler behind the layer, whatever the path and method.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    runs: Arc<AtomicUsize>,
}

impl Server {
    /// Serves a handler, which is given the number of its runs before.
    pub(crate) async fn start<H, F>(layer: Layer, handler: H) -> Self
    where
        H: Fn(usize, Request) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let (app, runs) = app(layer, handler);
        let addr = serve(app).await;
        Self { addr, runs }
    }

    /// Returns how often the handler has run.
    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}

/// An application with one handler behind the layer, and the count of its runs.
pub(crate) fn app<H, F>(layer: Layer, handler: H) -> (Router, Arc<AtomicUsize>)
where
    H: Fn(usize, Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let counted = move |request| handler(count.fetch_add(1, Ordering::SeqCst), request);
    (Router::new().fallback(counted).layer(layer), runs)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

pub(crate) const BOTH: [Version; 2] = [Version::Http1, Version::Http2];

/// A client with connections of its own, HTTP/2 by prior knowledge.
#[derive(Clone)]
pub(crate) struct Client {
    pool: Pool<HttpConnector, Body>,
    addr: SocketAddr,
}

impl Client {
    pub(crate) fn new(addr: SocketAddr, version: Version) -> Self {
        let mut pool = Pool::builder(TokioExecutor::new());
        pool.http2_only(version == Version::Http2);
        // Whatever is sent twice here, the test has sent it.
        pool.retry_canceled_requests(false);
        let pool = pool.build_http();
        Self { pool, addr }
    }

    /// Makes a POST with this key, from one and the same caller.
    pub(crate) fn request(&self, key: &str, body: impl Into<Body>) -> Request {
        let uri = format!("http://{}/", self.addr);
        keyed(Method::POST, &uri, "secret", key, body.into())
    }

    /// Sends a request and waits for the head of its response.
    pub(crate) async fn open(
        &self,
        request: Request,
    ) -> Result<http::Response<Incoming>, SendError> {
        soon(self.pool.request(request)).await
    }

    /// Sends a POST and reads the whole answer, or returns `None` if it broke.
    pub(crate) async fn try_post(&self, key: &str, body: impl Into<Body>) -> Option<Answer> {
        let response = self.open(self.request(key, body)).await.ok()?;
        Answer::read(response).await.ok()
    }

    /// Sends a POST and reads the whole answer.
    pub(crate) async fn post(&self, key: &str, body: impl Into<Body>) -> Answer {
        let response = self.open(self.request(key, body)).await.unwrap();
        Answer::read(response).await.unwrap()
    }

    /// Sends a POST again for as long as the first request with this key is in progress.
    pub(crate) async fn post_when_free(&self, key: &str, body: impl Into<Bytes>) -> Answer {
        let body = body.into();
        loop {
            let answer = self.post(key, body.clone()).await;
            if answer.status != StatusCode::CONFLICT {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Bytes of which no two places look the same.
pub(crate) fn pattern(len: usize) -> Bytes {
    (0..len).map(|at| (at % 251) as u8).collect()
}
