//! Uploads that tear half-way.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{
    Client, Frames, Raw, Server, Version, broken, data, layer, pattern, soon, until,
};

const WHOLE: usize = 300_000;
const SENT: [usize; 3] = [0, 1, 100_000];

/// Answers 201 to a whole upload, and 400 to a torn one.
pub(crate) async fn upload(request: Request) -> Response {
    match to_bytes(request.into_body(), usize::MAX).await {
        Ok(body) => (StatusCode::CREATED, body.len().to_string()).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// Sends the whole upload again, which must run.
async fn retry(server: &Server, version: Version) {
    let client = Client::new(server.addr, version);
    let retry = client.post_when_free("k", pattern(WHOLE)).await;
    assert_eq!(
        (retry.status, retry.is_replay()),
        (StatusCode::CREATED, false)
    );
    assert_eq!(retry.body, WHOLE.to_string());
    assert_eq!(server.runs(), 2);
    let again = client.post("k", pattern(WHOLE)).await;
    assert_eq!(
        (again.status, again.is_replay()),
        (StatusCode::CREATED, true)
    );
    assert_eq!(server.runs(), 2);
}

#[tokio::test]
async fn the_400_for_a_torn_upload_is_not_kept() {
    for sent in SENT {
        let server = Server::start(layer(), |_, request| upload(request)).await;
        let mut raw = Raw::connect(server.addr).await;
        raw.send_head("/", "k", &[&format!("content-length: {WHOLE}")])
            .await;
        raw.send(&pattern(sent)).await;
        // Closed for sending only, so that the client gets to see the answer.
        raw.0.shutdown().await.unwrap();
        assert!(raw.read_head().await.starts_with(b"HTTP/1.1 400"), "{sent}");
        retry(&server, Version::Http1).await;
    }
}

#[tokio::test]
async fn an_upload_of_a_client_that_is_gone_is_not_kept() {
    for sent in SENT {
        let server = Server::start(layer(), |_, request| upload(request)).await;
        let mut raw = Raw::connect(server.addr).await;
        raw.send_head("/", "k", &[&format!("content-length: {WHOLE}")])
            .await;
        raw.send(&pattern(sent)).await;
        until(|| server.runs() == 1).await;
        drop(raw);
        retry(&server, Version::Http1).await;
    }
}

#[tokio::test]
async fn an_upload_torn_between_two_chunks_is_not_kept() {
    let server = Server::start(layer(), |_, request| upload(request)).await;
    let mut raw = Raw::connect(server.addr).await;
    raw.send_head("/", "k", &["transfer-encoding: chunked"])
        .await;
    raw.send(b"5\r\nhello\r\n").await;
    raw.0.shutdown().await.unwrap();
    assert!(raw.read_head().await.starts_with(b"HTTP/1.1 400"));
    retry(&server, Version::Http1).await;
}

#[tokio::test]
async fn an_upload_torn_over_http2_is_not_kept() {
    for declared in [Some(WHOLE), None] {
        for sent in SENT {
            let server = Server::start(layer(), |_, request| upload(request)).await;
            let client = Client::new(server.addr, Version::Http2);
            let (frames, body) = Frames::channel(declared);
            let post = tokio::spawn(async move { client.try_post("k", body).await });
            frames.send(data(pattern(sent))).unwrap();
            until(|| server.runs() == 1).await;
            frames.send(broken()).unwrap();
            let first = post.await.unwrap();
            let status = first.map(|answer| answer.status);
            assert_ne!(status, Some(StatusCode::CREATED), "{declared:?}, {sent}");
            retry(&server, Version::Http2).await;
        }
    }
}

/// Sends a part of an upload over HTTP/2, and then resets its stream with this code.
async fn reset_half_way(server: &Server, reason: h2::Reason) {
    let socket = TcpStream::connect(server.addr).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = http::Request::post(format!("http://{}/", server.addr))
        .header("x-api-key", "secret")
        .header("idempotency-key", "k")
        .header("content-length", WHOLE);
    let request = request.body(()).unwrap();
    let (response, mut stream) = client.send_request(request, false).unwrap();
    // Within the window that every stream has.
    stream.send_data(pattern(WHOLE / 10), false).unwrap();
    until(|| server.runs() == 1).await;
    stream.send_reset(reason);
    drop(soon(response).await);
}

#[tokio::test]
async fn half_an_upload_whose_http2_stream_is_reset_is_not_kept_whatever_the_code() {
    for reason in [
        h2::Reason::NO_ERROR,
        h2::Reason::CANCEL,
        h2::Reason::INTERNAL_ERROR,
    ] {
        let server = Server::start(layer(), |_, request| upload(request)).await;
        reset_half_way(&server, reason).await;
        retry(&server, Version::Http2).await;
    }
}
