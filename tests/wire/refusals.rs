//! Replays and refusals of requests that bring an upload with them.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use crate::support::{
    BOTH, Client, Frames, Raw, Server, StoppedClock, data, layer, pattern, soon, until,
};
use crate::uploads::upload;

const LEN: usize = 1024 * 1024;

/// What is sent, and the status that it is answered with.
struct Case {
    path: &'static str,
    key: String,
    status: u16,
    is_replay: bool,
}

/// Serves uploads, with one that has a record under the key "done", and one under way under "running".
async fn serve() -> (Server, Arc<Semaphore>, [Case; 4]) {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let server = Server::start(layer(), move |_, request| {
        let gate = Arc::clone(&opened);
        async move {
            let is_running = request.uri().path() == "/wait";
            let response: Response = upload(request).await;
            if is_running {
                let _permit = gate.acquire().await.unwrap();
                return StatusCode::ACCEPTED.into_response();
            }
            response
        }
    })
    .await;
    let mut done = Raw::connect(server.addr).await;
    done.send_head("/", "done", &["content-length: 0"]).await;
    assert!(done.read_answer().await.contains(" 201 "));
    let mut running = Raw::connect(server.addr).await;
    running
        .send_head("/wait", "running", &["content-length: 0"])
        .await;
    until(|| server.runs() == 2).await;
    // Kept open until the runtime of the test ends.
    tokio::spawn(async move { running.read_answer().await });
    let case = |path, key: &str, status, is_replay| Case {
        path,
        key: key.to_owned(),
        status,
        is_replay,
    };
    let cases = [
        case("/", "done", 201, true),
        case("/wait", "running", 409, false),
        case("/other", "done", 422, false),
        case("/", &"x".repeat(256), 400, false),
    ];
    (server, gate, cases)
}

#[tokio::test]
async fn a_large_upload_gets_its_answer_and_not_a_reset() {
    let (server, _gate, cases) = serve().await;
    let length = format!("content-length: {LEN}");
    for case in cases {
        let mut raw = Raw::connect(server.addr).await;
        // Repeated on the same connection, which only an upload that was read to its end allows.
        for _ in 0..10 {
            raw.send_head(case.path, &case.key, &[&length]).await;
            raw.send(&pattern(LEN)).await;
            let head = raw.read_answer().await;
            assert!(
                head.starts_with(&format!("http/1.1 {}", case.status)),
                "{head}"
            );
            assert_eq!(head.contains("idempotency-replayed: true"), case.is_replay);
        }
    }
    assert_eq!(server.runs(), 2);
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_the_final_answer_without_an_upload() {
    let (server, _gate, cases) = serve().await;
    let length = format!("content-length: {LEN}");
    for case in cases {
        let mut raw = Raw::connect(server.addr).await;
        raw.send_head(case.path, &case.key, &[&length, "expect: 100-continue"])
            .await;
        let head = raw.read_answer().await;
        assert!(
            head.starts_with(&format!("http/1.1 {}", case.status)),
            "{head}"
        );
        assert_eq!(head.contains("idempotency-replayed: true"), case.is_replay);
    }
    assert_eq!(server.runs(), 2);

    // A first time request is told to go on, as it would be without the layer.
    let mut raw = Raw::connect(server.addr).await;
    raw.send_head("/", "new", &[&length, "expect: 100-continue"])
        .await;
    assert!(raw.read_head().await.starts_with(b"HTTP/1.1 100 Continue"));
    raw.send(&pattern(LEN)).await;
    assert!(raw.read_answer().await.starts_with("http/1.1 201"));
}

#[tokio::test]
async fn an_answer_does_not_wait_for_the_upload_behind_it() {
    for version in BOTH {
        // As long as it stands still, nothing can be waited for that is bounded by time.
        let _clock = StoppedClock::new();
        let (server, _gate, cases) = serve().await;
        for case in cases {
            let client = Client::new(server.addr, version);
            let (frames, upload) = Frames::channel(Some(LEN));
            let mut request = client.request(&case.key, upload);
            *request.uri_mut() = format!("http://{}{}", server.addr, case.path)
                .parse()
                .unwrap();
            let response = client.open(request).await.unwrap();
            assert_eq!(response.status(), case.status, "{version:?}");
            let answer = soon(response.into_body().collect()).await.unwrap();
            assert!(!answer.to_bytes().is_empty());
            // What comes now is read behind the answer, on a connection that stays open.
            let _ = frames.send(data(pattern(LEN)));
            drop(frames);
            let next = client.post("done", "").await;
            assert!(next.is_replay());
        }
        assert_eq!(server.runs(), 2);
    }
}

#[tokio::test]
async fn a_connection_is_used_again_after_an_answer_that_came_before_its_upload() {
    let _clock = StoppedClock::new();
    let (server, _gate, cases) = serve().await;
    let length = format!("content-length: {LEN}");
    let mut raw = Raw::connect(server.addr).await;
    for case in cases {
        raw.send_head(case.path, &case.key, &[&length]).await;
        let head = raw.read_answer().await;
        assert!(
            head.starts_with(&format!("http/1.1 {}", case.status)),
            "{head}"
        );
        assert!(!head.contains("connection: close"), "{head}");
        raw.send(&pattern(LEN)).await;
    }
    assert_eq!(server.runs(), 2);
}
