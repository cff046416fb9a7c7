//! Bodies that are passed on as they are made: handed on at once, read on when the client leaves.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::support::{
    Answer, BOTH, Client, FrameSender, Frames, Layer, Server, StoppedClock, Version, data, layer,
    pattern, soon, until,
};

const WAIT: Duration = Duration::from_secs(20);

/// Serves a body of unknown size and this type, whose frames the test sends; a second run answers
/// with "again".
async fn serve_frames(layer: Layer, content_type: &'static str) -> (Server, FrameSender) {
    let (frames, body) = Frames::channel(None);
    let body = Arc::new(Mutex::new(Some(body)));
    let server = Server::start(layer, move |_, _| {
        let body = body.lock().unwrap().take();
        async move {
            let response = Response::builder().header("content-type", content_type);
            let body = body.unwrap_or_else(|| Body::from("again"));
            response.body(body).unwrap()
        }
    })
    .await;
    (server, frames)
}

async fn read_frame(body: &mut Incoming) -> Bytes {
    let frame = soon(body.frame()).await.unwrap().unwrap();
    frame.into_data().unwrap()
}

#[tokio::test]
async fn each_frame_reaches_the_client_before_the_next_one_is_made() {
    for version in BOTH {
        for (content_type, is_kept) in [("text/event-stream", false), ("text/plain", true)] {
            let (server, frames) = serve_frames(layer(), content_type).await;
            let client = Client::new(server.addr, version);
            let response = client.open(client.request("k", "")).await.unwrap();
            let mut body = response.into_body();
            for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
                frames.send(data(event)).unwrap();
                assert_eq!(read_frame(&mut body).await, event);
            }
            drop(frames);
            assert!(soon(body.collect()).await.unwrap().to_bytes().is_empty());

            let retry = client.post("k", "").await;
            assert_eq!(retry.is_replay(), is_kept);
            let replay = "data: 1\n\ndata: 2\n\ndata: 3\n\n";
            assert_eq!(retry.body, if is_kept { replay } else { "again" });
        }
    }
}

#[tokio::test]
async fn a_body_whose_client_leaves_half_way_is_kept_whole() {
    for version in BOTH {
        let layer = layer();
        let detached = layer.detached();
        let (server, frames) = serve_frames(layer, "text/plain").await;
        let client = Client::new(server.addr, version);
        let response = client.open(client.request("k", "")).await.unwrap();
        let mut body = response.into_body();
        frames.send(data("he")).unwrap();
        assert_eq!(read_frame(&mut body).await, "he");
        drop(body);
        until(|| detached.count() == 1).await;
        assert_eq!(client.post("k", "").await.status, StatusCode::CONFLICT);
        frames.send(data("llo")).unwrap();
        drop(frames);
        detached.wait(WAIT).await.unwrap();

        let retry = client.post("k", "").await;
        assert!(retry.is_replay());
        assert_eq!(retry.body, "hello");
        assert_eq!(server.runs(), 1);
    }
}

/// A body that always has more.
struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'.'; 1024])))))
    }
}

#[tokio::test]
async fn an_endless_body_is_let_go_at_the_limit() {
    for version in BOTH {
        let layer = layer();
        let detached = layer.detached();
        let server = Server::start(layer, |_, _| async { Response::new(Body::new(Endless)) }).await;
        let client = Client::new(server.addr, version);
        let response = client.open(client.request("k", "")).await.unwrap();
        let mut body = response.into_body();
        assert!(!read_frame(&mut body).await.is_empty());
        drop(body);
        // Either the client had been sent more than the limit, or the rest is read for the record.
        let retry = client.post_when_free("k", "").await;
        assert!(retry.is_replay() && retry.is_without_body());
        detached.wait(WAIT).await.unwrap();
        assert_eq!(server.runs(), 1);
    }
}

#[tokio::test]
async fn an_endless_body_that_trickles_is_let_go_when_its_client_has_been_gone_for_long() {
    for version in BOTH {
        let clock = StoppedClock::new();
        let layer = layer()
            .lease(Duration::from_secs(60))
            .max_detached(Duration::from_secs(600), 10);
        let detached = layer.detached();
        let (server, frames) = serve_frames(layer, "text/plain").await;
        let client = Client::new(server.addr, version);
        let response = client.open(client.request("k", "")).await.unwrap();
        let mut body = response.into_body();
        frames.send(data("tick")).unwrap();
        assert_eq!(read_frame(&mut body).await, "tick");
        drop(body);
        until(|| detached.count() == 1).await;

        // Slower than a lease, which is renewed all the while.
        for _ in 0..8 {
            frames.send(data("tick")).unwrap();
            clock.advance(70).await;
            assert_eq!(client.post("k", "").await.status, StatusCode::CONFLICT);
        }
        clock.advance(60).await;
        until(|| detached.count() == 0).await;
        assert!(frames.is_closed(), "the body is still held");
        let retry = client.post("k", "").await;
        assert!(retry.is_replay() && retry.is_without_body());
        assert_eq!(server.runs(), 1);
    }
}

#[tokio::test]
async fn a_stream_slower_than_a_lease_whose_client_left_is_kept_whole() {
    for version in BOTH {
        let clock = StoppedClock::new();
        let layer = layer().lease(Duration::from_secs(60));
        let detached = layer.detached();
        let (server, frames) = serve_frames(layer, "text/plain").await;
        let client = Client::new(server.addr, version);
        let response = client.open(client.request("k", "")).await.unwrap();
        let mut body = response.into_body();
        frames.send(data("tick ")).unwrap();
        assert_eq!(read_frame(&mut body).await, "tick ");
        drop(body);
        until(|| detached.count() == 1).await;
        clock.advance(200).await;
        frames.send(data("tock")).unwrap();
        drop(frames);
        until(|| detached.count() == 0).await;
        let retry = client.post("k", "").await;
        assert!(retry.is_replay());
        assert_eq!(retry.body, "tick tock");
        assert_eq!(server.runs(), 1);
    }
}

#[tokio::test]
async fn a_reader_that_stalls_does_not_hold_its_key() {
    // Far more than the sockets between the two take up, in frames of both sizes.
    const SIZE: usize = 32 * 1024 * 1024;
    for version in BOTH {
        for frame in [256 * 1024, 1024] {
            let layer = layer().max_response_bytes(SIZE);
            let server = Server::start(layer, move |_, _| async move {
                let frames = std::iter::repeat_n(pattern(frame), SIZE / frame);
                Response::new(Frames::of(None, frames.map(data)))
            })
            .await;
            let client = Client::new(server.addr, version);
            let response = client.open(client.request("k", "")).await.unwrap();
            // Another connection: this one is not read from.
            let other = Client::new(server.addr, Version::Http1);
            let retry = other.post_when_free("k", "").await;
            assert!(retry.is_replay());
            assert_eq!(retry.body.len(), SIZE);
            // The reader gets all of it, when it reads at last.
            let first = Answer::read(response).await.unwrap();
            assert!(first.body == retry.body);
            assert_eq!(server.runs(), 1);
        }
    }
}
