//! A whole request through the layer, sent twice and then with other words, over any handler.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use support::Read;
use tower_idempotency::Outcome;

use super::exchange::{Exchange, TTL};
use super::expected::{Expected, expected, kept, without_markers};
use super::input::Input;

pub fn check(input: &Input) {
    let mut input = input.clone();
    if contradicts_itself(&input) {
        // Of what a server would cut: `tests/wire/declared.rs` has the tests of that.
        input.response_headers.remove("content-length");
    }
    Exchange::with(|exchange| async move {
        let first = exchange.send(&input).await;
        let is_refused = matches!(first.outcome(), Outcome::InvalidKey(_));
        if is_refused {
            assert_eq!(first.parts.status, StatusCode::BAD_REQUEST);
            assert_eq!((exchange.runs(), exchange.store_calls()), (0, 0));
        } else {
            assert_eq!(exchange.runs(), 1);
            assert_eq!(first.parts.status, input.status);
            assert_eq!(first.body, input.response.whole(), "{:?}", first.outcome());
            exchange.assert_handler_saw(&input);
        }
        match expected(&input) {
            Expected::PassedThrough(outcome) => {
                assert_eq!(first.outcome().as_str(), outcome);
                assert_eq!(first.parts.headers, input.response_headers);
                assert_eq!(exchange.store_calls(), 0);
            }
            Expected::Refused => assert!(is_refused),
            Expected::Freed => {
                assert_eq!(
                    first.parts.headers,
                    without_markers(&input.response_headers)
                );
                exchange.send(&input).await;
                assert_eq!(
                    exchange.runs(),
                    2,
                    "the key is not free: {:?}",
                    first.outcome()
                );
            }
            Expected::Kept { body } => {
                assert_eq!(
                    first.parts.headers,
                    without_markers(&input.response_headers)
                );
                assert_replayed(&exchange, &input, body.as_deref()).await;
            }
        }
        assert_untouched(&exchange, &input).await;
        assert_eq!(exchange.layer.detached().count(), 0);
        // Nothing outlives its time: records and claims give their room back.
        tokio::time::sleep(TTL + Duration::from_secs(2)).await;
        assert!(exchange.store.memory.is_empty());
        exchange
    });
}

/// The retry gets the response that was kept, and another request with the key gets none.
async fn assert_replayed(exchange: &Exchange, input: &Input, body: Option<&[u8]>) {
    let replay = exchange.send(input).await;
    assert_eq!(exchange.runs(), 1);
    assert_eq!(replay.outcome(), Outcome::Replayed);
    assert_eq!(replay.parts.status, input.status);
    let mut headers = kept(&input.response_headers);
    headers.insert("idempotency-replayed", "true".parse().unwrap());
    if body.is_none() {
        headers.insert("idempotency-replay-body", "omitted".parse().unwrap());
        for name in [
            "content-encoding",
            "content-range",
            "content-digest",
            "content-md5",
            "repr-digest",
            "unencoded-digest",
            "digest",
        ] {
            headers.remove(name);
        }
    }
    assert_eq!(replay.parts.headers, headers);
    for name in headers.keys() {
        // Equal values can differ in this.
        let sensitive = |headers: &HeaderMap| -> Vec<_> {
            let values = headers.get_all(name).iter();
            values.map(HeaderValue::is_sensitive).collect()
        };
        assert_eq!(sensitive(&replay.parts.headers), sensitive(&headers));
    }
    let data = body.unwrap_or_default().to_vec();
    assert_eq!(
        replay.body,
        Read {
            data,
            ..Read::default()
        }
    );

    let other = Input {
        uri: Uri::from_static("/fuzz/no-other-target?is=this"),
        ..input.clone()
    };
    let refused = exchange.send(&other).await;
    assert_eq!(exchange.runs(), 1);
    assert_eq!(refused.parts.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.outcome(), Outcome::KeyReused);
}

/// A GET with the same words never meets the store, and comes back as the handler gave it.
async fn assert_untouched(exchange: &Exchange, input: &Input) {
    let (runs, calls) = (exchange.runs(), exchange.store_calls());
    let get = Input {
        method: Method::GET,
        ..input.clone()
    };
    let response = exchange.send(&get).await;
    assert_eq!((exchange.runs(), exchange.store_calls()), (runs + 1, calls));
    assert_eq!(response.parts.status, input.status);
    assert_eq!(response.parts.headers, input.response_headers);
    assert_eq!(response.body, input.response.whole());
    assert!(response.parts.extensions.is_empty());
}

/// Returns whether the handler's `Content-Length` is not the length of its body.
fn contradicts_itself(input: &Input) -> bool {
    let body = input.response.whole();
    let len = body.data.len().to_string();
    let mut declared = input.response_headers.get_all("content-length").iter();
    declared.any(|value| body.is_broken || value.as_bytes() != len.as_bytes())
}
