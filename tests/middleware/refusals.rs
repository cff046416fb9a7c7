//! Requests that are refused: the problem details they get, and what stays untouched.

use http::{HeaderValue, Method, Request, Uri};
use serde_json::Value;
use tower::ServiceExt;
use tower_idempotency::{InvalidKey, Outcome};

use crate::support::{
    Answer, CREDENTIAL, Call, Frames, Gate, Handler, numbered, request, scripted, send, write,
};

/// Checks that an answer is problem details of this status and code which show no secret.
#[track_caller]
fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["code"], code);
    let kind: Uri = problem["type"].as_str().unwrap().parse().unwrap();
    assert!(kind.scheme().is_some() && kind.host().is_some(), "{kind}");
    for text in ["title", "detail"] {
        assert!(!problem[text].as_str().unwrap().is_empty());
    }
    let all = format!("{:?} {}", answer.headers, answer.body);
    assert!(!all.contains(CREDENTIAL) && !all.contains(KEY), "{all}");
}

const KEY: &str = "key-of-the-request";

#[tokio::test(start_paused = true)]
async fn an_invalid_key_is_refused_with_400_and_touches_nothing() {
    let (layer, store) = scripted();
    let handler = Handler::creating("{}");
    let app = handler.under(&layer);
    let long = "k".repeat(256);
    for (key, why) in [
        (&b""[..], InvalidKey::Empty),
        (long.as_bytes(), InvalidKey::TooLong),
        (b"caf\xc3\xa9", InvalidKey::NotPrintableAscii),
        (b"\xff", InvalidKey::NotPrintableAscii),
        (b"tab\tbed", InvalidKey::NotPrintableAscii),
    ] {
        let mut request = write(KEY);
        let value = HeaderValue::from_bytes(key).unwrap();
        request.headers_mut().insert("idempotency-key", value);
        let answer = send(&app, request).await;
        assert_eq!(answer.outcome, Outcome::InvalidKey(why));
        assert_problem(&answer, 400, "idempotency_key_invalid");
    }
    let mut request = write(KEY);
    let same = HeaderValue::from_static(KEY);
    request.headers_mut().append("idempotency-key", same);
    let answer = send(&app, request).await;
    assert_eq!(answer.outcome, Outcome::InvalidKey(InvalidKey::Repeated));
    assert_problem(&answer, 400, "idempotency_key_invalid");
    assert_eq!((handler.runs(), store.calls()), (0, vec![]));

    let longest = "k".repeat(255);
    send(&app, write(&longest)).await.assert_run("{}");
    send(&app, write(" ~")).await.assert_run("{}");
}

#[tokio::test(start_paused = true)]
async fn an_invalid_key_is_refused_also_where_the_caller_can_not_be_told() {
    let (layer, _) = scripted();
    let handler = Handler::creating("{}");
    let mut request = write("");
    request.headers_mut().remove("x-api-key");
    let answer = send(&handler.under(&layer), request).await;
    assert_eq!(answer.status, 400);
    assert_eq!(handler.runs(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_missing_key_is_refused_with_400_where_one_is_required() {
    let (layer, store) = scripted();
    let handler = Handler::creating("{}");
    let app = handler.under(&layer.require_key(true));
    let request = Request::post("/vms").header("x-api-key", CREDENTIAL);
    let answer = send(&app, request.body(Frames::exact(["{}"])).unwrap()).await;
    assert_eq!(answer.outcome, Outcome::MissingKey);
    assert_problem(&answer, 400, "idempotency_key_missing");
    assert_eq!((handler.runs(), store.calls()), (0, vec![]));
    send(&app, write(KEY)).await.assert_run("{}");
}

#[tokio::test(start_paused = true)]
async fn a_concurrent_duplicate_is_refused_with_409_and_another_request_with_422() {
    let (layer, store) = scripted();
    let gate = Gate::new();
    let handler = Handler::at(&gate);
    let app = handler.under(&layer);
    let first = tokio::spawn(app.clone().oneshot(write(KEY)));
    gate.reached().await;

    let duplicate = send(&app, write(KEY)).await;
    assert_eq!(duplicate.outcome, Outcome::InProgress);
    assert_problem(&duplicate, 409, "idempotency_key_in_progress");
    let retry_after = duplicate.headers["retry-after"].to_str().unwrap();
    assert!(retry_after.parse::<u32>().is_ok_and(|seconds| seconds > 0));

    let others = || {
        [
            request(Method::PUT, "/vms", KEY),
            request(Method::POST, "/disks", KEY),
            request(Method::POST, "/vms?size=2", KEY),
        ]
    };
    for other in others() {
        let answer = send(&app, other).await;
        assert_eq!(answer.outcome, Outcome::KeyReused);
        assert_problem(&answer, 422, "idempotency_key_reused");
        assert!(!answer.headers.contains_key("retry-after"));
    }

    gate.open();
    let first = Answer::read(first.await.unwrap().unwrap()).await;
    first.assert_run(numbered(1));
    for other in others() {
        let answer = send(&app, other).await;
        assert_problem(&answer, 422, "idempotency_key_reused");
    }
    // The record is unharmed, and the handler has run once.
    send(&app, write(KEY)).await.assert_replay(numbered(1));
    assert_eq!(handler.runs(), 1);
    let begun = store
        .calls()
        .iter()
        .filter(|call| **call == Call::Begin)
        .count();
    assert_eq!(store.calls().len(), begun + 1, "nothing but one complete");
}

#[tokio::test(start_paused = true)]
async fn where_a_key_is_required_a_caller_that_can_not_be_identified_is_refused_with_400() {
    let (layer, store) = scripted();
    let handler = Handler::creating("{}");
    let requiring = handler.under(&layer.clone().require_key(true));
    let open = handler.under(&layer);
    let from_nobody = || {
        let mut request = write(KEY);
        request.headers_mut().remove("x-api-key");
        request
    };
    for _ in 0..2 {
        let answer = send(&requiring, from_nobody()).await;
        assert_eq!(answer.outcome, Outcome::UnknownCaller);
        assert_problem(&answer, 400, "idempotency_caller_unknown");
    }
    assert_eq!((handler.runs(), store.calls()), (0, vec![]));
    let passed = send(&open, from_nobody()).await;
    assert_eq!(passed.outcome.as_str(), "passed_through_no_caller");
    send(&requiring, write(KEY)).await.assert_run("{}");
}
