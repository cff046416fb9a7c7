//! The layer on a hand-written hyper server, without a framework.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tower::service_fn;
use tower_idempotency::{IdempotencyKey, RequestBody};
use tower_layer::Layer as _;

use crate::support::{BOTH, Client, Frames, Layer, data, layer, pattern, until};

struct Server {
    addr: SocketAddr,
    runs: Arc<AtomicUsize>,
    /// Lets the server drop all its connections.
    hang_up: Arc<Notify>,
}

impl Server {
    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}

async fn serve(layer: Layer) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let service = layer.layer(service_fn(
        move |request: Request<RequestBody<Incoming>>| {
            count.fetch_add(1, Ordering::SeqCst);
            handle(request)
        },
    ));
    let hang_up = Arc::new(Notify::new());
    let told = Arc::clone(&hang_up);
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let io = TokioIo::new(accepted.unwrap().0);
                    let service = TowerToHyperService::new(service.clone());
                    connections.spawn(async move {
                        let server = auto::Builder::new(TokioExecutor::new());
                        let _ = server.serve_connection(io, service).await;
                    });
                }
                () = told.notified() => connections.shutdown().await,
            }
        }
    });
    Server {
        addr,
        runs,
        hang_up,
    }
}

/// Answers with the key and the size of the upload, or 400 if that is torn.
async fn handle(
    request: Request<RequestBody<Incoming>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let key: &IdempotencyKey = parts.extensions.get().unwrap();
    let mut response = Response::new(Full::default());
    match body.collect().await {
        Ok(body) => {
            let text = format!("{} {}", key.as_str(), body.to_bytes().len());
            *response.body_mut() = Full::from(text);
        }
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(response)
}

#[tokio::test]
async fn a_hyper_server_replays_and_refuses() {
    for version in BOTH {
        let server = serve(layer()).await;
        let client = Client::new(server.addr, version);
        let first = client.post("k", "hello").await;
        assert_eq!((&first.body[..], first.is_replay()), (&b"k 5"[..], false));
        let retry = client.post("k", "hello").await;
        assert_eq!((&retry.body[..], retry.is_replay()), (&b"k 5"[..], true));
        let mut other = client.request("k", "hello");
        *other.uri_mut() = format!("http://{}/other", server.addr).parse().unwrap();
        let refused = client.open(other).await.unwrap();
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(
            refused.headers()["content-type"],
            "application/problem+json"
        );
        assert_eq!(server.runs(), 1);
    }
}

#[tokio::test]
async fn an_upload_that_the_server_cuts_off_is_not_kept() {
    const WHOLE: usize = 300_000;
    for version in BOTH {
        for sent in [0, 1, 100_000] {
            let server = serve(layer()).await;
            let client = Client::new(server.addr, version);
            let (frames, body) = Frames::channel(Some(WHOLE));
            frames.send(data(pattern(sent))).unwrap();
            let post = tokio::spawn(async move { client.try_post("k", body).await });
            until(|| server.runs() == 1).await;
            server.hang_up.notify_one();
            assert!(post.await.unwrap().is_none());

            let client = Client::new(server.addr, version);
            let retry = client.post_when_free("k", pattern(WHOLE)).await;
            assert_eq!(retry.body, format!("k {WHOLE}"), "{version:?}, {sent}");
            assert!(!retry.is_replay());
            assert_eq!(server.runs(), 2);
        }
    }
}
