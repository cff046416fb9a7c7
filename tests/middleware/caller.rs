//! Whom the layer takes for one caller, by default.

use http::{HeaderValue, Request};
use tower_idempotency::{Outcome, Unprotected};

use crate::support::{Frames, Handler, created, numbered, scripted, send, write};

type Credentials<'a> = &'a [(&'static str, &'static str)];

fn with(credentials: Credentials<'_>) -> Request<Frames> {
    let mut request = write("k");
    request.headers_mut().remove("x-api-key");
    for (name, value) in credentials {
        let value = HeaderValue::from_static(value);
        request.headers_mut().append(*name, value);
    }
    request
}

#[tokio::test(start_paused = true)]
async fn strangers_without_a_credential_are_not_one_caller() {
    for nothing in [
        &[] as Credentials<'_>,
        &[("authorization", "")],
        &[("authorization", " ")],
        &[("authorization", "Bearer")],
        &[("authorization", "bearer ")],
        &[("authorization", "Basic Og==")],
        &[("x-api-key", "")],
        &[("x-api-key", "\t")],
        &[("authorization", "Basic"), ("x-api-key", " ")],
    ] {
        assert_unprotected(nothing, nothing).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_is_made_anew_for_each_request_identifies_nobody() {
    for (first, retry) in [
        (
            "AWS4-HMAC-SHA256 Credential=alice, Signature=1",
            "AWS4-HMAC-SHA256 Credential=alice, Signature=2",
        ),
        (
            "Digest username=\"alice\", nc=00000001",
            "Digest username=\"alice\", nc=00000002",
        ),
        (
            "OAuth oauth_nonce=\"1\", oauth_signature=\"a\"",
            "OAuth oauth_nonce=\"2\", oauth_signature=\"b\"",
        ),
        (
            "Hawk id=\"alice\", nonce=\"1\"",
            "Hawk id=\"alice\", nonce=\"2\"",
        ),
        (
            "Signature keyId=\"alice\", signature=\"1\"",
            "Signature keyId=\"alice\", signature=\"2\"",
        ),
    ] {
        assert_unprotected(&[("authorization", first)], &[("authorization", retry)]).await;
        let beside_key = |value| [("authorization", value), ("x-api-key", "app")];
        assert_unprotected(&beside_key(first), &beside_key(retry)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_without_a_credential_does_not_take_a_caller_from_another() {
    let (layer, _) = scripted();
    let handler = Handler::new(|run, _| async move { created(numbered(run)) });
    let app = handler.under(&layer);
    let first = with(&[("authorization", "Bearer"), ("x-api-key", "alice")]);
    send(&app, first).await.assert_run(numbered(1));
    for retry in [
        &[("x-api-key", "alice")] as Credentials<'_>,
        &[("x-api-key", ""), ("x-api-key", "alice")],
        &[("authorization", ""), ("x-api-key", "alice")],
    ] {
        send(&app, with(retry)).await.assert_replay(numbered(1));
    }
    let other = with(&[("authorization", "Bearer"), ("x-api-key", "bob")]);
    send(&app, other).await.assert_run(numbered(2));
}

/// Checks that both requests run, and that the store is asked for neither.
async fn assert_unprotected(first: Credentials<'_>, second: Credentials<'_>) {
    let (layer, store) = scripted();
    let handler = Handler::new(|run, _| async move { created(numbered(run)) });
    let app = handler.under(&layer);
    for (run, credentials) in [(1, first), (2, second)] {
        let answer = send(&app, with(credentials)).await;
        let unprotected = Outcome::PassedThrough(Unprotected::NoCaller);
        assert_eq!(answer.outcome, unprotected, "{credentials:?}");
        assert_eq!(answer.body, numbered(run), "{credentials:?}");
    }
    assert_eq!(store.calls(), []);
}
