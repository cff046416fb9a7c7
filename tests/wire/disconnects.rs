//! Clients that hang up while the handler runs.

use std::sync::Arc;
use std::time::Duration;

use axum::response::IntoResponse;
use http::StatusCode;
use tokio::sync::Semaphore;
use tower_idempotency::Detached;

use crate::support::{Client, Raw, Server, Version, layer, until};

const WAIT: Duration = Duration::from_secs(20);

/// Serves a handler that waits for the gate.
async fn serve() -> (Server, Detached, Arc<Semaphore>) {
    let layer = layer();
    let detached = layer.detached();
    let gate = Arc::new(Semaphore::new(0));
    let closed = Arc::clone(&gate);
    let server = Server::start(layer, move |run, _| {
        let gate = Arc::clone(&closed);
        async move {
            let _permit = gate.acquire().await.unwrap();
            (StatusCode::CREATED, run.to_string()).into_response()
        }
    })
    .await;
    (server, detached, gate)
}

/// Checks that the handler of a client that has left is carried on, and its response kept.
async fn check(server: &Server, version: Version, detached: &Detached, gate: &Semaphore) {
    until(|| detached.count() == 1).await;
    let client = Client::new(server.addr, version);
    assert_eq!(client.post("k", "").await.status, StatusCode::CONFLICT);
    gate.add_permits(1);
    detached.wait(WAIT).await.unwrap();
    let retry = client.post("k", "").await;
    assert_eq!(
        (retry.status, retry.is_replay()),
        (StatusCode::CREATED, true)
    );
    assert_eq!(retry.body, "0");
    assert_eq!(server.runs(), 1);
}

#[tokio::test]
async fn a_handler_whose_http1_client_closes_its_socket_finishes() {
    let (server, detached, gate) = serve().await;
    let mut raw = Raw::connect(server.addr).await;
    raw.send_head("/", "k", &["content-length: 0"]).await;
    until(|| server.runs() == 1).await;
    drop(raw);
    check(&server, Version::Http1, &detached, &gate).await;
}

#[tokio::test]
async fn a_handler_whose_http2_client_resets_its_stream_finishes() {
    let (server, detached, gate) = serve().await;
    let client = Client::new(server.addr, Version::Http2);
    // A second stream keeps the connection open, so that only the first one ends.
    let other = client.clone();
    let other = tokio::spawn(async move { other.post("other", "").await });
    until(|| server.runs() == 1).await;
    let first = client.request("k", "");
    let first = tokio::spawn(async move { client.open(first).await.is_ok() });
    until(|| server.runs() == 2).await;
    first.abort();
    until(|| detached.count() == 1).await;

    let retry = Client::new(server.addr, Version::Http2);
    assert_eq!(retry.post("k", "").await.status, StatusCode::CONFLICT);
    gate.add_permits(2);
    detached.wait(WAIT).await.unwrap();
    let retry = retry.post("k", "").await;
    assert_eq!(
        (retry.status, retry.is_replay()),
        (StatusCode::CREATED, true)
    );
    assert_eq!(retry.body, "1");
    assert_eq!(other.await.unwrap().body, "0");
    assert_eq!(server.runs(), 2);
}
