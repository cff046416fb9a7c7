//! Encoded bodies: a client that decodes must never be promised bytes that do not come.

use axum::response::Response;

use crate::support::{BOTH, Client, Frames, Raw, Server, data, layer, pattern};

const LIMIT: usize = 1000;

/// Serves a body of this length, which is said to be compressed. Whether it is makes no difference
/// to the layer.
async fn serve(len: usize, is_sized: bool) -> Server {
    Server::start(layer().max_response_bytes(LIMIT), move |_, _| async move {
        let body = Frames::of(is_sized.then_some(len), [data(pattern(len))]);
        let response = Response::builder()
            .status(201)
            .header("content-type", "application/json")
            .header("content-encoding", "gzip")
            .header("content-digest", "sha-256=:AAAA:")
            .header("content-md5", "AAAA")
            .header("vary", "accept-encoding");
        response.body(body).unwrap()
    })
    .await
}

#[tokio::test]
async fn a_compressed_body_over_the_limit_is_replayed_as_an_empty_one_that_is_not_compressed() {
    for version in BOTH {
        for is_sized in [false, true] {
            let server = serve(LIMIT + 1, is_sized).await;
            let client = Client::new(server.addr, version);
            let first = client.post("k", "").await;
            assert_eq!(first.headers["content-encoding"], "gzip");
            assert_eq!(first.body.len(), LIMIT + 1);
            let retry = client.post("k", "").await;
            assert!(retry.is_replay() && retry.is_without_body());
            for gone in ["content-encoding", "content-digest", "content-md5"] {
                assert!(!retry.headers.contains_key(gone), "{gone}, {version:?}");
            }
            assert_eq!((retry.status, retry.body.len()), (first.status, 0));
            assert_eq!(retry.headers["vary"], "accept-encoding");

            // The same in the bytes of HTTP/1.1, where no client makes them look better.
            let mut raw = Raw::connect(server.addr).await;
            raw.send_head("/", "k", &["content-length: 0"]).await;
            let head = raw.read_answer().await;
            assert!(head.contains("\r\ncontent-length: 0\r\n"), "{head}");
            assert!(head.contains("\r\nidempotency-replay-body: omitted\r\n"));
            assert!(!head.contains("gzip") && !head.contains("aaaa"), "{head}");
            assert_eq!(server.runs(), 1);
        }
    }
}

#[tokio::test]
async fn a_compressed_body_within_the_limit_is_replayed_as_it_was() {
    for version in BOTH {
        for is_sized in [false, true] {
            let server = serve(LIMIT, is_sized).await;
            let client = Client::new(server.addr, version);
            let first = client.post("k", "").await;
            let retry = client.post("k", "").await;
            assert!(retry.is_replay() && !retry.is_without_body());
            for kept in ["content-encoding", "content-digest", "content-md5"] {
                assert_eq!(retry.headers[kept], first.headers[kept], "{kept}");
            }
            assert_eq!(retry.body, first.body);
            assert_eq!(server.runs(), 1);
        }
    }
}
