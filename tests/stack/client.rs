//! A client: its requests, and the answers that it gets.

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use tower_idempotency::Outcome;

pub(crate) const ALICE: (&str, &str) = ("authorization", "Bearer alice-1");
pub(crate) const ORIGIN: (&str, &str) = ("origin", "https://app.example.com");

/// A POST of Alice's with this key.
pub(crate) fn post(target: &str, key: &str) -> Request<Body> {
    with(anonymous(target, key), [ALICE])
}

/// A POST with this key, and nothing that says whose.
pub(crate) fn anonymous(target: &str, key: &str) -> Request<Body> {
    Request::builder()
        .method(Method::POST)
        .uri(target)
        .header("idempotency-key", key)
        .body(Body::from("{}"))
        .unwrap()
}

/// The request with these header fields in place of those of the same name.
pub(crate) fn with<const N: usize>(
    mut request: Request<Body>,
    fields: [(&'static str, &str); N],
) -> Request<Body> {
    for (name, value) in fields {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request
}

/// A response that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) outcome: Outcome,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The status, and whether the answer is a replay.
    pub(crate) fn seen(&self) -> (u16, bool) {
        let replayed = self.headers.contains_key("idempotency-replayed");
        (self.status.as_u16(), replayed)
    }

    /// The value of a header, or nothing if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Sends a request and reads its answer.
pub(crate) async fn send(app: &Router, request: Request<Body>) -> Answer {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        outcome: Outcome::of(&parts.extensions),
        body: body.collect().await.unwrap().to_bytes(),
    }
}

/// Sends a request from a task of its own, so that the client can hang up.
pub(crate) fn spawn(app: &Router, request: Request<Body>) -> JoinHandle<Answer> {
    let app = app.clone();
    tokio::spawn(async move { send(&app, request).await })
}

/// Lets a client hang up.
pub(crate) async fn hang_up(client: JoinHandle<Answer>) {
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
}
