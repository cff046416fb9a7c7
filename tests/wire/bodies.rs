//! Bodies of every size, whole or broken, first sent and then replayed.

use axum::body::Body;
use axum::response::Response;
use http::HeaderMap;
use http_body::Frame;

use crate::support::{Answer, BOTH, Client, Frames, Server, Version, broken, data, layer, pattern};

const LIMIT: usize = 1000;

/// Makes a body of this length in frames of at most 300 bytes.
fn body(len: usize, is_declared: bool) -> Body {
    let bytes = pattern(len);
    let frames = bytes.chunks(300).map(|chunk| data(chunk.to_vec()));
    Frames::of(is_declared.then_some(len), frames)
}

/// Calls a check for each version, with a server of bodies of this length of known and unknown size.
async fn for_each_way<F: Future<Output = ()>>(len: usize, check: impl Fn(Server, Client) -> F) {
    for version in BOTH {
        for is_declared in [true, false] {
            let layer = layer().max_response_bytes(LIMIT);
            let handler = move |_, _| async move { Response::new(body(len, is_declared)) };
            let server = Server::start(layer, handler).await;
            let client = Client::new(server.addr, version);
            check(server, client).await;
        }
    }
}

#[tokio::test]
async fn a_body_up_to_the_limit_is_replayed_byte_for_byte() {
    for len in [0, 1, LIMIT - 1, LIMIT] {
        for_each_way(len, |server, client| async move {
            let first = client.post("k", "").await;
            assert!(!first.is_replay());
            assert_eq!(first.body, pattern(len));
            for _ in 0..2 {
                let retry = client.post("k", "").await;
                assert!(retry.is_replay() && !retry.is_without_body());
                assert_eq!(retry.body, pattern(len));
            }
            assert_eq!(server.runs(), 1);
        })
        .await;
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_sent_whole_and_replayed_as_omitted() {
    for len in [LIMIT + 1, 100 * LIMIT] {
        for_each_way(len, |server, client| async move {
            let first = client.post("k", "").await;
            assert_eq!(first.body, pattern(len));
            let retry = client.post("k", "").await;
            assert!(retry.is_replay());
            assert_eq!(retry.headers["idempotency-replay-body"], "omitted");
            assert_eq!((retry.status, retry.body.len()), (first.status, 0));
            assert_eq!(server.runs(), 1);
        })
        .await;
    }
}

#[tokio::test]
async fn trailers_go_along_with_the_first_response() {
    for version in BOTH {
        for is_declared in [true, false] {
            // HTTP/1.1 has trailers behind chunks only.
            if version == Version::Http1 && is_declared {
                continue;
            }
            let server = Server::start(layer(), move |_, _| async move {
                let trailers = HeaderMap::from_iter([(
                    "x-checksum".parse().unwrap(),
                    "4711".parse().unwrap(),
                )]);
                let frames = [data("he"), data("llo"), Ok(Frame::trailers(trailers))];
                let body = Frames::of(is_declared.then_some(5), frames);
                let response = Response::builder().header("trailer", "x-checksum");
                response.body(body).unwrap()
            })
            .await;
            let client = Client::new(server.addr, version);
            let post = || async {
                let mut request = client.request("k", "");
                request
                    .headers_mut()
                    .insert("te", "trailers".parse().unwrap());
                let response = client.open(request).await.unwrap();
                Answer::read(response).await.unwrap()
            };
            let first = post().await;
            assert_eq!(first.body, "hello");
            assert_eq!(first.trailers.unwrap()["x-checksum"], "4711");
            let retry = post().await;
            assert!(retry.is_replay());
            assert_eq!((&retry.body[..], retry.trailers), (&b"hello"[..], None));
            assert!(!retry.headers.contains_key("trailer"));
        }
    }
}

#[tokio::test]
async fn a_body_that_breaks_reaches_the_client_broken_and_frees_the_key() {
    for version in BOTH {
        for is_declared in [true, false] {
            let server = Server::start(layer(), move |run, _| async move {
                let end = if run == 0 { broken() } else { data("llo") };
                let declared = is_declared.then_some(5);
                Response::new(Frames::of(declared, [data("he"), end]))
            })
            .await;
            let client = Client::new(server.addr, version);
            let first = client.try_post("k", "").await;
            assert!(first.is_none(), "{version:?}, {is_declared}: {first:?}");
            let retry = client.post("k", "").await;
            assert_eq!((&retry.body[..], retry.is_replay()), (&b"hello"[..], false));
            assert_eq!(server.runs(), 2);
        }
    }
}
