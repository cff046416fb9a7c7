//! Bodies that give more or less than they declare, by their size or by `Content-Length`.

use std::sync::{Arc, Mutex};

use axum::response::Response;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;

use crate::support::{BOTH, Client, Frames, Server, data, layer, pattern, soon};

#[tokio::test]
async fn a_body_that_gives_more_than_its_size_says_is_sent_and_kept_whole() {
    const LIMIT: usize = 1000;
    for version in BOTH {
        for len in [10, LIMIT, LIMIT + 1] {
            let layer = layer().max_response_bytes(LIMIT);
            let server = Server::start(layer, move |_, _| async move {
                let bytes = pattern(len);
                let frames = [data(bytes.slice(..5)), data(bytes.slice(5..))];
                let response = Response::builder().header(CONTENT_LENGTH, 5);
                response.body(Frames::of(Some(5), frames)).unwrap()
            })
            .await;
            let client = Client::new(server.addr, version);
            assert_eq!(client.post("k", "").await.body, pattern(len));
            let retry = client.post("k", "").await;
            assert!(retry.is_replay());
            assert_eq!(retry.is_without_body(), len > LIMIT);
            assert_eq!(retry.body, pattern(if len > LIMIT { 0 } else { len }));
        }
    }
}

#[tokio::test]
async fn a_body_that_gives_less_than_it_declares_is_broken_and_frees_the_key() {
    for version in BOTH {
        for by_header in [true, false] {
            let server = Server::start(layer(), move |run, _| async move {
                let end = if run == 0 { data("") } else { data("llo") };
                let declared = (!by_header).then_some(5);
                let mut response = Response::new(Frames::of(declared, [data("he"), end]));
                if by_header {
                    response.headers_mut().insert(CONTENT_LENGTH, 5.into());
                }
                response
            })
            .await;
            let client = Client::new(server.addr, version);
            let first = client.try_post("k", "").await;
            assert!(first.is_none(), "{version:?}, {by_header}: {first:?}");
            let retry = client.post("k", "").await;
            assert_eq!((&retry.body[..], retry.is_replay()), (&b"hello"[..], false));
        }
    }
}

#[tokio::test]
async fn a_body_is_kept_before_the_last_byte_that_its_content_length_declares() {
    for version in BOTH {
        // Ownership here, so that the body never says that it has ended.
        let (frames, body) = Frames::channel(None);
        let body = Arc::new(Mutex::new(Some(body)));
        let server = Server::start(layer(), move |_, _| {
            let body = body.lock().unwrap().take().unwrap();
            async {
                Response::builder()
                    .header(CONTENT_LENGTH, 5)
                    .body(body)
                    .unwrap()
            }
        })
        .await;
        let client = Client::new(server.addr, version);
        let response = client.open(client.request("k", "")).await.unwrap();
        assert_eq!(response.headers()[CONTENT_LENGTH], "5");
        frames.send(data("he")).unwrap();
        frames.send(data("llo")).unwrap();
        let mut body = response.into_body();
        let mut read = Vec::new();
        while read.len() < 5 {
            let frame = soon(body.frame()).await.unwrap().unwrap();
            read.extend_from_slice(&frame.into_data().unwrap());
        }
        assert_eq!(read, b"hello");
        let retry = client.post("k", "").await;
        assert!(retry.is_replay(), "{version:?}: {retry:?}");
        assert_eq!(retry.body, "hello");
    }
}
