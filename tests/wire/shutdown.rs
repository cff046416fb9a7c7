//! Shutting a server down: first the requests, then the work whose clients have left.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::response::IntoResponse;
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};

use crate::support::{Client, Raw, Server, Version, app, layer, soon, until};

#[tokio::test]
async fn after_a_graceful_shutdown_the_detached_work_can_be_waited_for() {
    let layer = layer();
    let detached = layer.detached();
    let gate = Arc::new(Semaphore::new(0));
    let closed = Arc::clone(&gate);
    let (app, runs) = app(layer.clone(), move |_, _| {
        let gate = Arc::clone(&closed);
        async move {
            let _permit = gate.acquire().await.unwrap();
            (StatusCode::CREATED, "made").into_response()
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        axum::serve(listener, app)
            .with_graceful_shutdown(stopped)
            .await
    });

    let mut raw = Raw::connect(addr).await;
    raw.send_head("/", "k", &["content-length: 0"]).await;
    until(|| runs.load(Ordering::SeqCst) == 1).await;
    drop(raw);
    stop.send(()).unwrap();
    // The server does not wait for a connection that is gone, and its handler still runs.
    soon(serving).await.unwrap().unwrap();
    let unfinished = detached.wait(Duration::from_millis(1)).await.unwrap_err();
    assert_eq!(unfinished.count(), 1);

    gate.add_permits(1);
    detached.wait(Duration::from_secs(20)).await.unwrap();
    // Another server on the same store has what the first one made.
    let next = Server::start(layer, |_, _| async { "again".into_response() }).await;
    let retry = Client::new(next.addr, Version::Http1).post("k", "").await;
    assert_eq!(
        (retry.status, retry.is_replay()),
        (StatusCode::CREATED, true)
    );
    assert_eq!(retry.body, "made");
    assert_eq!(next.runs(), 0);
}
