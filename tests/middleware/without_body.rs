//! A replay without its body: which fields would speak of bytes that are not there.

use http::Response;
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{IdempotencyLayer, Outcome};

use crate::support::{Answer, Call, Fault, Frames, Handler, Scripted, scripted, send, write};

const BODY: &str = "the body";

/// Fields that a client would hold against the empty body.
const OF_THE_BODY: [(&str, &str); 7] = [
    ("content-encoding", "gzip"),
    ("content-digest", "sha-256=:AAAA:"),
    ("repr-digest", "sha-256=:BBBB:"),
    ("unencoded-digest", "sha-256=:CCCC:"),
    ("digest", "sha-256=DDDD"),
    ("content-md5", "EEEE"),
    ("content-range", "bytes 0-7/8"),
];

/// Fields that hold with or without the body.
const OTHERS: [(&str, &str); 7] = [
    ("content-type", "application/json"),
    ("content-language", "en"),
    ("content-location", "/vms/1"),
    ("location", "/vms/1"),
    ("etag", "\"1\""),
    ("vary", "accept-encoding"),
    ("x-content-encoding", "gzip"),
];

fn handler(is_sized: bool) -> Handler {
    Handler::new(move |_, _| async move {
        let mut response = Response::builder().status(201);
        for (name, value) in OF_THE_BODY.into_iter().chain(OTHERS) {
            response = response.header(name, value);
        }
        // Each of them may come more than once.
        response = response.header("content-encoding", "br");
        let body = [BODY];
        let body = if is_sized {
            Frames::exact(body)
        } else {
            Frames::unknown(body)
        };
        Ok(response.body(body).unwrap())
    })
}

/// Sends a write and its retry, and returns both answers.
async fn twice(layer: &IdempotencyLayer<Scripted>, is_sized: bool) -> (Answer, Answer) {
    let handler = handler(is_sized);
    let app = handler.under(layer);
    let first = send(&app, write("k")).await;
    let retry = send(&app, write("k")).await;
    assert_eq!(handler.runs(), 1);
    (first, retry)
}

#[tokio::test(start_paused = true)]
async fn whatever_took_the_body_its_replay_has_no_field_that_speaks_of_its_bytes() {
    for is_full in [false, true] {
        for is_sized in [false, true] {
            let (mut layer, store) = scripted();
            if is_full {
                store.once(Call::Complete, Fault::Fail(StoreErrorKind::Full));
            } else {
                layer = layer.max_response_bytes(BODY.len() - 1);
            }
            let (first, retry) = twice(&layer, is_sized).await;
            assert_eq!(first.outcome, Outcome::KeptWithoutBody);
            assert_eq!(first.body, BODY);
            retry.assert_replay("");
            assert_eq!(retry.status, 201);
            assert_eq!(retry.headers["idempotency-replay-body"], "omitted");
            for (name, _) in OF_THE_BODY {
                assert!(first.headers.contains_key(name), "{name}");
                assert!(!retry.headers.contains_key(name), "{name}");
            }
            for (name, value) in OTHERS {
                assert_eq!(retry.headers[name], value);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_with_its_body_has_the_fields_that_speak_of_it() {
    for is_sized in [false, true] {
        let (layer, _) = scripted();
        let (first, retry) = twice(&layer, is_sized).await;
        retry.assert_replay(BODY);
        for (name, _) in OF_THE_BODY.into_iter().chain(OTHERS) {
            let values = |answer: &Answer| -> Vec<_> {
                answer.headers.get_all(name).iter().cloned().collect()
            };
            assert_eq!(values(&retry), values(&first), "{name}");
        }
    }
}
