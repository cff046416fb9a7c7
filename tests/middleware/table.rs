//! What a request gets that passes through, runs, or is replayed: the rows of the README's table.

use http::{Method, Request};
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{CallerId, IdempotencyKey, Outcome, Unprotected};

use crate::support::{
    CREDENTIAL, Call, Fault, Frames, Handler, created, numbered, request, scripted, send, write,
};

#[tokio::test(start_paused = true)]
async fn a_method_outside_the_set_passes_through_and_its_key_is_ignored() {
    let (layer, store) = scripted();
    let handler = Handler::new(|_, request| async move {
        assert!(request.extensions().get::<IdempotencyKey>().is_none());
        created("{}")
    });
    let app = handler.under(&layer.require_key(true));
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PURGE"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        // The key is not even valid.
        let answer = send(&app, request(method, "/vms", "")).await;
        assert_eq!(answer.outcome, Outcome::PassedThrough(Unprotected::Method));
    }
    assert_eq!((handler.runs(), store.calls()), (5, vec![]));
}

#[tokio::test(start_paused = true)]
async fn the_methods_that_are_set_are_guarded_and_no_others() {
    let (layer, _) = scripted();
    let handler = Handler::creating("{}");
    let purge = Method::from_bytes(b"PURGE").unwrap();
    let app = handler.under(&layer.methods([purge.clone()]));
    send(&app, request(purge.clone(), "/vms", "k"))
        .await
        .assert_run("{}");
    send(&app, request(purge, "/vms", "k"))
        .await
        .assert_replay("{}");
    let answer = send(&app, write("k")).await;
    assert_eq!(answer.outcome, Outcome::PassedThrough(Unprotected::Method));
}

#[tokio::test(start_paused = true)]
async fn a_write_without_a_key_passes_through() {
    let (layer, store) = scripted();
    let handler = Handler::creating("{}");
    let app = handler.under(&layer);
    for run in 1..=2 {
        let mut request = write("k");
        request.headers_mut().remove("idempotency-key");
        let answer = send(&app, request).await;
        assert_eq!(answer.outcome, Outcome::PassedThrough(Unprotected::NoKey));
        assert_eq!(handler.runs(), run);
    }
    assert_eq!(store.calls(), []);
}

#[tokio::test(start_paused = true)]
async fn a_key_without_a_caller_passes_through_unprotected() {
    let (layer, store) = scripted();
    let handler = Handler::creating("{}");
    let app = handler.under(&layer);
    for run in 1..=2 {
        let mut request = write("k");
        request.headers_mut().remove("x-api-key");
        let answer = send(&app, request).await;
        assert_eq!(
            answer.outcome,
            Outcome::PassedThrough(Unprotected::NoCaller)
        );
        assert_eq!(handler.runs(), run);
    }
    assert_eq!(store.calls(), []);
}

#[tokio::test(start_paused = true)]
async fn every_guarded_method_runs_once_and_is_replayed_byte_for_byte() {
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let (layer, store) = scripted();
        let handler = Handler::new(|_, request| async move {
            let key = request.extensions().get::<IdempotencyKey>();
            assert_eq!(key.map(IdempotencyKey::as_str), Some("order-4711"));
            created(r#"{"vm":"a"}"#)
        });
        let app = handler.under(&layer);
        let first = send(&app, request(method.clone(), "/vms?x=1", "order-4711")).await;
        first.assert_run(r#"{"vm":"a"}"#);
        assert_eq!(first.outcome, Outcome::Kept);
        for _ in 0..3 {
            let mut again = send(&app, request(method.clone(), "/vms?x=1", "order-4711")).await;
            again.assert_replay(r#"{"vm":"a"}"#);
            assert_eq!(again.status, first.status);
            again.headers.remove("idempotency-replayed");
            assert_eq!(again.headers, first.headers);
        }
        assert_eq!(handler.runs(), 1);
        assert_eq!(
            store.calls(),
            [
                Call::Begin,
                Call::Complete,
                Call::Begin,
                Call::Begin,
                Call::Begin
            ]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn another_body_gets_the_kept_response() {
    let (layer, _) = scripted();
    let handler = Handler::creating("{}");
    let app = handler.under(&layer);
    send(&app, write("k")).await.assert_run("{}");
    let other = write("k").map(|_| Frames::exact(["another body"]));
    send(&app, other).await.assert_replay("{}");
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_key_or_another_caller_runs() {
    let (layer, _) = scripted();
    let handler = Handler::new(|run, _| async move { created(numbered(run)) });
    let app = handler.under(&layer);
    send(&app, write("k")).await.assert_run(numbered(1));
    send(&app, write("K")).await.assert_run(numbered(2));
    let mut stranger = write("k");
    stranger
        .headers_mut()
        .insert("x-api-key", "stranger".parse().unwrap());
    send(&app, stranger).await.assert_run(numbered(3));
    send(&app, write("k")).await.assert_replay(numbered(1));
}

#[tokio::test(start_paused = true)]
async fn the_caller_and_the_header_can_be_set() {
    #[derive(Clone)]
    struct User(&'static str);
    let (layer, _) = scripted();
    let layer = layer
        .caller(|parts| Some(CallerId::new(parts.extensions.get::<User>()?.0)))
        .header_name(http::HeaderName::from_static("x-request-id"));
    let handler = Handler::new(|run, _| async move { created(numbered(run)) });
    let app = handler.under(&layer);
    let by = |user: &'static str, token: &str| {
        Request::post("/vms")
            .extension(User(user))
            .header("x-api-key", token)
            .header("x-request-id", "k")
            .body(Frames::exact([""]))
            .unwrap()
    };
    send(&app, by("ann", "t1")).await.assert_run(numbered(1));
    // A user who has renewed the token is still the same user.
    send(&app, by("ann", "t2")).await.assert_replay(numbered(1));
    send(&app, by("bob", "t1")).await.assert_run(numbered(2));
    // Without a user nobody is identified, whatever the token.
    let mut nobody = by("ann", CREDENTIAL);
    nobody.extensions_mut().remove::<User>();
    let answer = send(&app, nobody).await;
    assert_eq!(
        answer.outcome,
        Outcome::PassedThrough(Unprotected::NoCaller)
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_or_hangs_lets_the_handler_run() {
    use StoreErrorKind::{Corrupt, Full, Timeout, Unavailable};
    for (fault, kind) in [
        (Fault::Fail(Unavailable), Unavailable),
        (Fault::Fail(Full), Full),
        (Fault::Fail(Corrupt), Corrupt),
        (Fault::Hang, Timeout),
    ] {
        let (layer, store) = scripted();
        let handler = Handler::creating("{}");
        let app = handler.under(&layer);
        store.always(Call::Begin, fault);
        for run in 1..=2 {
            let answer = send(&app, write("k")).await;
            assert_eq!(answer.outcome, Outcome::StoreFailed(kind), "{fault:?}");
            assert_eq!((answer.status.as_u16(), &*answer.body), (201, "{}"));
            assert_eq!(handler.runs(), run);
        }
    }
}
