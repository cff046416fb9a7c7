//! Which responses are kept, and that the key of others is free before they leave.

use bytes::Bytes;
use http::{Method, Response};
use tower::ServiceExt;
use tower_idempotency::{DoNotKeep, NotKept, Outcome, is_kept_by_default};

use crate::support::{
    Call, Fault, Frames, Gate, Handler, Piece, STORE_TIMEOUT, request, scripted, send, write,
};

type Fields = &'static [(&'static str, &'static str)];

fn response(status: u16, fields: Fields) -> Response<Frames> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(Frames::exact(["body"])).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_the_default_rule_refuses_frees_the_key_before_the_response_leaves() {
    const PDF: Fields = &[("content-type", "application/pdf")];
    const EVENTS: Fields = &[("content-type", "text/event-stream")];
    const DOWNLOAD: Fields = &[
        ("content-type", "text/csv"),
        ("content-disposition", "attachment; filename=a.csv"),
    ];
    const LATER: Fields = &[("retry-after", "30")];
    const GRPC: Fields = &[("content-type", "application/grpc+json")];
    let again = [307, 308, 401, 407, 408, 417, 421, 425, 426, 429, 500, 503];
    let again = again.map(|status| (status, &[] as Fields));
    let others = [
        (403, LATER),
        (409, LATER),
        (200, PDF),
        (200, EVENTS),
        (200, DOWNLOAD),
        (200, GRPC),
    ];
    for (status, fields) in again.into_iter().chain(others) {
        let (layer, store) = scripted();
        // A store that takes its time, so that a release that is not waited for is caught.
        store.always(Call::Release, Fault::Pend(3));
        let handler = Handler::new(move |_, _| async move { Ok(response(status, fields)) });
        let app = handler.under(&layer);
        for run in 1..=2 {
            let first = app.clone().oneshot(write("k")).await.unwrap();
            let outcome = Outcome::of(first.extensions());
            assert_eq!(outcome, Outcome::NotKept(NotKept::Rule), "{status}");
            assert_eq!(handler.runs(), run, "{status} {fields:?}");
            assert!(store.memory.is_empty(), "{status} {fields:?}");
            let body = http_body_util::BodyExt::collect(first.into_body()).await;
            assert_eq!(body.unwrap().to_bytes(), Bytes::from("body"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_says_that_the_request_was_decided_is_kept() {
    const LATER: Fields = &[("retry-after", "30")];
    const PROTOBUF: Fields = &[("content-type", "application/x-protobuf")];
    let decided = [200, 201, 202, 204, 301, 400, 403, 404, 409, 422];
    let decided = decided.map(|status| (status, &[] as Fields));
    for (status, fields) in decided
        .into_iter()
        .chain([(202, LATER), (303, LATER), (200, PROTOBUF)])
    {
        let (layer, _) = scripted();
        let handler = Handler::new(move |_, _| async move { Ok(response(status, fields)) });
        let app = handler.under(&layer);
        send(&app, write("k")).await.assert_run("body");
        let again = send(&app, write("k")).await;
        // A 204 has no body, whatever its handler says.
        again.assert_replay(if status == 204 { "" } else { "body" });
        assert_eq!(again.status, status);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_can_say_that_its_response_is_not_kept_whatever_the_rule() {
    let (layer, store) = scripted();
    let handler = Handler::new(|_, _| async {
        let mut response = response(200, &[]);
        response.extensions_mut().insert(DoNotKeep);
        Ok(response)
    });
    let app = handler.under(&layer.keep_if(|_| true));
    for run in 1..=2 {
        let answer = send(&app, write("k")).await;
        assert_eq!(answer.outcome, Outcome::NotKept(NotKept::DoNotKeep));
        assert_eq!((handler.runs(), store.memory.len()), (run, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_rule_can_be_replaced() {
    let (layer, _) = scripted();
    let handler = Handler::new(|_, request| async move {
        let status = if request.method() == Method::POST {
            500
        } else {
            200
        };
        Ok(response(status, &[]))
    });
    let app = handler.under(&layer.keep_if(|parts| !is_kept_by_default(parts)));
    send(&app, write("a")).await.assert_run("body");
    send(&app, write("a")).await.assert_replay("body");
    let put = || request(Method::PUT, "/vms", "b");
    let answer = send(&app, put()).await;
    assert_eq!(answer.outcome, Outcome::NotKept(NotKept::Rule));
    send(&app, put()).await;
    assert_eq!(handler.runs(), 3);
}

#[tokio::test(start_paused = true)]
async fn whoever_has_a_kept_response_can_rely_on_its_record() {
    let (layer, store) = scripted();
    store.always(Call::Complete, Fault::Pend(3));
    let handler = Handler::creating("{}");
    let app = handler.under(&layer);
    // Not a byte of the body is read, only the response is there.
    let first = app.clone().oneshot(write("exact")).await.unwrap();
    send(&app, write("exact")).await.assert_replay("{}");
    drop(first);

    // Where the size is unknown, the record is there before the end is signalled.
    store.always(Call::Complete, Fault::Late(STORE_TIMEOUT / 2));
    let handler = Handler::new(|_, _| async {
        let pieces = ["a".into(), Piece::Pend, "b".into(), Piece::Pend];
        Ok(Response::new(Frames::unknown(pieces)))
    });
    let app = handler.under(&layer);
    let first = app.clone().oneshot(write("unknown")).await.unwrap();
    assert_eq!(Outcome::of(first.extensions()), Outcome::Recording);
    let mut body = first.into_body();
    for _ in 0..2 {
        assert!(http_body_util::BodyExt::frame(&mut body).await.is_some());
        assert!(!http_body::Body::is_end_stream(&body));
    }
    send(&app, write("unknown")).await.assert_in_progress();
    assert!(http_body_util::BodyExt::frame(&mut body).await.is_none());
    send(&app, write("unknown")).await.assert_replay("ab");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_kept_is_not_waited_for() {
    let (layer, _) = scripted();
    let gate = Gate::new();
    let at_gate = gate.clone();
    let handler = Handler::new(move |_, _| {
        let gate = at_gate.clone();
        async move {
            let until = Piece::Until(Box::pin(async move { gate.pass().await }));
            let body = Frames::exact([Piece::Data("first"), until, Piece::Data("second")]);
            Ok(Response::builder().status(500).body(body).unwrap())
        }
    });
    let app = handler.under(&layer);
    // The response is there although its body is not.
    let response = app.clone().oneshot(write("k")).await.unwrap();
    gate.open();
    let body = http_body_util::BodyExt::collect(response.into_body()).await;
    assert_eq!(body.unwrap().to_bytes(), Bytes::from("firstsecond"));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_has_ended_at_once_is_kept_before_the_response_leaves() {
    let (layer, store) = scripted();
    store.always(Call::Complete, Fault::Pend(3));
    let handler = Handler::new(|_, _| async { Ok(Response::new(Frames::default())) });
    let app = handler.under(&layer);
    let first = app.clone().oneshot(write("k")).await.unwrap();
    assert_eq!(Outcome::of(first.extensions()), Outcome::Kept);
    send(&app, write("k")).await.assert_replay("");
    drop(first);
}
