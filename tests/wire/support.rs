//! A server on a port of its own, and clients that talk to it.

mod clock;
mod frames;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as Pool, Error as SendError};
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower_idempotency::{IdempotencyLayer, MemoryStore};

pub(crate) use self::clock::StoppedClock;
pub(crate) use self::frames::{FrameSender, Frames, broken, data};

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
    /// Serves a handler, which is told how often it has run before.
    pub(crate) async fn start<H, F>(layer: Layer, handler: H) -> Self
    where
        H: Fn(usize, Request) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let (app, runs) = app(layer, handler);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        // It ends with the runtime of its test.
        tokio::spawn(async move { axum::serve(listener, app).await });
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
        Request::post(format!("http://{}/", self.addr))
            .header("x-api-key", "secret")
            .header("idempotency-key", key)
            .body(body.into())
            .unwrap()
    }

    /// Sends a request and waits for the head of its response.
    pub(crate) async fn open(
        &self,
        request: Request,
    ) -> Result<http::Response<Incoming>, SendError> {
        soon(self.pool.request(request)).await
    }

    /// Sends a POST and reads the whole answer, or tells that it broke.
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

/// A response that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) async fn read(response: http::Response<Incoming>) -> hyper::Result<Self> {
        let (parts, body) = response.into_parts();
        let body = soon(body.collect()).await?;
        Ok(Self {
            status: parts.status,
            headers: parts.headers,
            trailers: body.trailers().cloned(),
            body: body.to_bytes(),
        })
    }

    pub(crate) fn is_replay(&self) -> bool {
        self.headers.contains_key("idempotency-replayed")
    }

    pub(crate) fn is_without_body(&self) -> bool {
        self.headers.contains_key("idempotency-replay-body")
    }
}

/// A connection whose bytes the test writes and reads itself.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self(TcpStream::connect(addr).await.unwrap())
    }

    /// Sends the head of a POST to a path, with these lines beside those that make it guarded.
    pub(crate) async fn send_head(&mut self, path: &str, key: &str, lines: &[&str]) {
        let mut head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: secret\r\n");
        head += &format!("idempotency-key: {key}\r\n");
        for line in lines {
            head += &format!("{line}\r\n");
        }
        head += "\r\n";
        self.send(head.as_bytes()).await;
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        soon(self.0.write_all(bytes)).await.unwrap();
    }

    /// Reads a response's head, up to the empty line behind it.
    pub(crate) async fn read_head(&mut self) -> Vec<u8> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(self.0.read_u8()).await.unwrap());
        }
        head
    }

    /// Reads a response with a `Content-Length`, and returns its head.
    pub(crate) async fn read_answer(&mut self) -> String {
        let head = String::from_utf8_lossy(&self.read_head().await).to_lowercase();
        let length = head
            .lines()
            .find_map(|l| l.strip_prefix("content-length: "));
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        soon(self.0.read_exact(&mut body)).await.unwrap();
        head
    }
}

/// Bytes of which no two places look the same.
pub(crate) fn pattern(len: usize) -> Bytes {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// Waits for what has to come, so that a test fails where it would hang.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.expect("this takes too long: it hangs")
}

/// Waits until something is so, which nobody tells.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    // Not on tokio's clock, which may stand still.
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "this takes too long: it hangs");
        tokio::task::yield_now().await;
    }
}

/// Far more than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);
