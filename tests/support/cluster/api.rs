//! A small API behind the layer, and a client for it.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use axum::routing::post;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;

use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower_idempotency::{IdempotencyKey, IdempotencyLayer, Store};

use crate::answer::Answer;
use crate::request::keyed;

/// Builds the API round a handler that is given the key.
pub fn router<S, H, F, R>(layer: IdempotencyLayer<S>, handler: H) -> Router
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
pub fn run_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A request under a key, always of the same caller.
pub fn request<B: Default>(authority: &str, key: &str) -> Request<B> {
    let uri = format!("http://{authority}/things");
    keyed(Method::POST, &uri, "secret", key, B::default())
}

/// Sends a request to an API in this process.
pub async fn call(router: &Router, key: &str) -> Answer<Bytes> {
    let response = tower::ServiceExt::oneshot(router.clone(), request::<Body>("test", key)).await;
    Answer::<Bytes>::read(response.unwrap()).await.unwrap()
}

/// A client with as many connections as it needs.
pub type HttpClient = Client<HttpConnector, Full<Bytes>>;

pub fn client() -> HttpClient {
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .build_http()
}

/// Sends a request to an instance; an error says that the connection broke.
pub async fn send(
    client: &HttpClient,
    authority: &str,
    key: &str,
) -> Result<Answer<Bytes>, hyper_util::client::legacy::Error> {
    let response = client.request(request(authority, key)).await?;
    Ok(Answer::<Bytes>::read(response).await.unwrap())
}
