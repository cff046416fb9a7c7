//! A small API behind the layer, and a client for it.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use axum::routing::post;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower_idempotency::{IdempotencyKey, IdempotencyLayer, Outcome, Store};

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    pub(crate) replayed: bool,
    /// `None` for a request over the network.
    pub(crate) outcome: Option<Outcome>,
}

/// Builds the API round a handler that is given the key.
pub(crate) fn router<S, H, F, R>(layer: IdempotencyLayer<S>, handler: H) -> Router
where
    S: Store,
    H: Fn(String) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = R> + Send,
    R: IntoResponse,
{
    let route = post(move |request: Request<Body>| async move {
        let key = request.extensions().get::<IdempotencyKey>();
        handler(key.expect("a key").as_str().to_owned()).await
    });
    Router::new().route("/things", route).layer(layer)
}

/// Returns a name for the keys of this run, since a server may be shared and keeps its records.
pub(crate) fn run_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A request under a key, always of the same caller.
pub(crate) fn request<B: Default>(authority: &str, key: &str) -> Request<B> {
    Request::post(format!("http://{authority}/things"))
        .header("x-api-key", "secret")
        .header("idempotency-key", key)
        .body(B::default())
        .unwrap()
}

/// Sends a request to an API in this process.
pub(crate) async fn call(router: &Router, key: &str) -> Answer {
    let response = tower::ServiceExt::oneshot(router.clone(), request::<Body>("test", key)).await;
    read(response.unwrap()).await
}

/// A client with as many connections as it needs.
pub(crate) type HttpClient = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn client() -> HttpClient {
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .build_http()
}

/// Sends a request to an instance; an error says that the connection broke.
pub(crate) async fn send(
    client: &HttpClient,
    authority: &str,
    key: &str,
) -> Result<Answer, hyper_util::client::legacy::Error> {
    Ok(read(client.request(request(authority, key)).await?).await)
}

async fn read<B>(response: Response<B>) -> Answer
where
    B: http_body::Body<Error: std::fmt::Debug>,
{
    Answer {
        status: response.status(),
        replayed: response.headers().contains_key("idempotency-replayed"),
        outcome: Some(Outcome::of(response.extensions())),
        body: response.into_body().collect().await.unwrap().to_bytes(),
    }
}
