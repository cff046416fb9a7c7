//! What an application may word, count, keep and change by itself.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response};
use tokio::time::advance;
use tower::ServiceExt;
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{InvalidKey, KeepFor, NotKept, Outcome, Refusal, StoreFailure};

use crate::support::{
    Answer, Call, Fault, Frames, Gate, Handler, LEASE, Piece, created, request, scripted, send,
    write,
};

#[tokio::test(start_paused = true)]
async fn what_counts_as_the_target_is_what_the_application_says() {
    let (layer, _) = scripted();
    // A tenant in a header counts, and the order of a query does not.
    let layer = layer.target(|parts| {
        let tenant = parts
            .headers
            .get("x-tenant")
            .map_or("", |value| value.to_str().unwrap());
        let query = parts.uri.query().unwrap_or_default();
        let mut pairs: Vec<_> = query.split('&').collect();
        pairs.sort_unstable();
        Cow::Owned(format!("{tenant} {} {}", parts.uri.path(), pairs.join("&")))
    });
    let handler = Handler::creating("done");
    let app = handler.under(&layer);
    let to = |target: &str, tenant: &'static str| {
        let mut request = request(Method::POST, target, "k");
        let tenant = HeaderValue::from_static(tenant);
        request.headers_mut().insert("x-tenant", tenant);
        request
    };
    send(&app, to("/vms?a=1&b=2", "one"))
        .await
        .assert_run("done");
    send(&app, to("/vms?b=2&a=1", "one"))
        .await
        .assert_replay("done");
    for (target, tenant) in [
        ("/vms?a=1", "one"),
        ("/vms?a=1&b=2", "two"),
        ("/vm?a=1&b=2", "one"),
    ] {
        let answer = send(&app, to(target, tenant)).await;
        assert_eq!(answer.outcome, Outcome::KeyReused, "{target} {tenant}");
    }
    let mut put = to("/vms?a=1&b=2", "one");
    *put.method_mut() = Method::PUT;
    assert_eq!(send(&app, put).await.outcome, Outcome::KeyReused);
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_refusal_is_worded_by_the_application() {
    let (layer, store) = scripted();
    let layer = layer
        .require_key(true)
        .on_store_failure(StoreFailure::Closed)
        .refuse_with(|refusal, request| {
            let language = request.headers.get("accept-language");
            let language = language.map_or("en", |value| value.to_str().unwrap());
            let mut response =
                Response::new(Bytes::from(format!("{language}: {}", refusal.code())));
            *response.status_mut() = refusal.status();
            response
        });
    let gate = Gate::new();
    let handler = Handler::at(&gate);
    let app = handler.under(&layer);
    let first = tokio::spawn(app.clone().oneshot(write("k")));
    gate.reached().await;
    let with = |key: Option<&'static str>, credential: bool, target: &str| {
        let mut request = request(Method::POST, target, "k");
        let headers = request.headers_mut();
        headers.insert("accept-language", HeaderValue::from_static("de"));
        match key {
            Some(key) => headers.insert("idempotency-key", HeaderValue::from_static(key)),
            None => headers.remove("idempotency-key"),
        };
        if !credential {
            headers.remove("x-api-key");
        }
        request
    };
    for (request, refusal, outcome) in [
        (
            with(None, true, "/vms"),
            Refusal::MissingKey,
            Outcome::MissingKey,
        ),
        (
            with(Some(""), true, "/vms"),
            Refusal::InvalidKey(InvalidKey::Empty),
            Outcome::InvalidKey(InvalidKey::Empty),
        ),
        (
            with(Some("k"), false, "/vms"),
            Refusal::UnknownCaller,
            Outcome::UnknownCaller,
        ),
        (
            with(Some("k"), true, "/vms"),
            Refusal::InProgress,
            Outcome::InProgress,
        ),
        (
            with(Some("k"), true, "/other"),
            Refusal::KeyReused,
            Outcome::KeyReused,
        ),
        (
            with(Some("down"), true, "/vms"),
            Refusal::StoreFailed(StoreErrorKind::Corrupt),
            Outcome::StoreFailed(StoreErrorKind::Corrupt),
        ),
    ] {
        if matches!(refusal, Refusal::StoreFailed(_)) {
            store.once(Call::Begin, Fault::Fail(StoreErrorKind::Corrupt));
        }
        let answer = send(&app, request).await;
        assert_eq!(answer.body, format!("de: {}", refusal.code()));
        assert_eq!(answer.status, refusal.status());
        assert_eq!(answer.outcome, outcome);
        assert!(!answer.headers.contains_key("content-type"));
    }
    gate.open();
    let first = first.await.unwrap().unwrap();
    Answer::read(first).await.assert_run("{\"run\":1}");
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_header_that_is_not_kept_is_in_the_first_answer_only() {
    let (layer, _) = scripted();
    let layer = layer.keep_header(|name| name != "x-request-id" && name != "connection");
    let handler = Handler::new(|_, _| async {
        let mut response = created("done")?;
        for (name, value) in [
            ("x-request-id", "7"),
            ("x-hop", "1"),
            ("connection", "x-hop"),
            ("x-kept", "a"),
            ("x-kept", "b"),
        ] {
            response
                .headers_mut()
                .append(name, HeaderValue::from_static(value));
        }
        Ok(response)
    });
    let app = handler.under(&layer);
    let first = send(&app, write("k")).await;
    assert_eq!(first.headers["x-request-id"], "7");
    let replay = send(&app, write("k")).await;
    replay.assert_replay("done");
    assert!(!replay.headers.contains_key("x-request-id"));
    // Whatever the rule says, what `Connection` names is for one connection.
    assert!(!replay.headers.contains_key("x-hop"));
    let kept = replay.headers.get_all("x-kept").iter();
    assert_eq!(kept.collect::<Vec<_>>(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_response_says_how_long_it_is_kept_whatever_its_body() {
    const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    let bodies: [fn() -> Frames; 3] = [
        || Frames::exact(["done"]),
        || Frames::unknown(["do", "ne"]),
        || Frames::unknown([Piece::Pend, "done".into()]),
    ];
    for body in bodies {
        let (layer, _) = scripted();
        let handler = Handler::new(move |run, _| async move {
            let mut response = Response::new(body());
            if run == 1 {
                response.extensions_mut().insert(KeepFor(WEEK));
            }
            Ok(response)
        });
        let app = handler.under(&layer);
        send(&app, write("k")).await.assert_run("done");
        advance(WEEK - Duration::from_secs(1)).await;
        send(&app, write("k")).await.assert_replay("done");
        advance(Duration::from_secs(2)).await;
        // And a day, when the handler does not say.
        send(&app, write("k")).await.assert_run("done");
        advance(Duration::from_secs(24 * 60 * 60 + 1)).await;
        send(&app, write("k")).await.assert_run("done");
        assert_eq!(handler.runs(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_time_that_no_store_can_count_is_taken_for_one_that_it_can() {
    for time in [Duration::ZERO, Duration::MAX] {
        let (layer, _) = scripted();
        let handler = Handler::new(move |_, _| async move {
            let mut response = created("done")?;
            response.extensions_mut().insert(KeepFor(time));
            Ok(response)
        });
        let app = handler.under(&layer);
        send(&app, write("k")).await.assert_run("done");
        advance(Duration::from_millis(2)).await;
        let retry = send(&app, write("k")).await;
        assert_eq!(retry.is_replay(), time > Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn the_head_of_a_replay_is_changed_and_no_other() {
    let (layer, _) = scripted();
    let layer = layer.on_replay(|parts| {
        // The age of the record, from what the handler has written down.
        let at = parts.headers.remove("x-at").unwrap();
        let age = 100 - at.to_str().unwrap().parse::<u64>().unwrap();
        parts.headers.insert("age", age.into());
    });
    let handler = Handler::new(|_, _| async {
        let mut response = created("done")?;
        response.headers_mut().insert("x-at", 70.into());
        Ok(response)
    });
    let app = handler.under(&layer);
    let first = send(&app, write("k")).await;
    assert!(!first.headers.contains_key("age"));
    let replay = send(&app, write("k")).await;
    replay.assert_replay("done");
    assert_eq!(replay.headers["age"], "30");
    assert_eq!(handler.runs(), 1);
}

/// The hooks by their names, and how often the handler has run when one has panicked in the second
/// request.
#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_never_makes_a_second_run() {
    for hook in ["target", "refuse_with", "on_replay"] {
        let (layer, store) = scripted();
        let layer = match hook {
            "target" => layer.target(|parts| match parts.headers.get("x-panic") {
                Some(_) => panic!("the hook's own"),
                None => Cow::Borrowed("/"),
            }),
            "refuse_with" => layer.refuse_with(|_, _| panic!("the hook's own")),
            _ => layer.on_replay(|_| panic!("the hook's own")),
        };
        let handler = Handler::creating("done");
        let app = handler.under(&layer);
        send(&app, write("k")).await.assert_run("done");
        let mut second = write("k");
        second
            .headers_mut()
            .insert("x-panic", HeaderValue::from_static("yes"));
        if hook == "refuse_with" {
            *second.method_mut() = Method::PUT;
        }
        let app_of_second = app.clone();
        let sent = tokio::spawn(async move { app_of_second.oneshot(second).await });
        assert!(sent.await.unwrap_err().is_panic(), "{hook}");
        assert_eq!(handler.runs(), 1, "{hook}");
        assert_eq!(store.memory.len(), 1, "{hook}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rule_for_headers_that_panics_leaves_the_key_to_its_lease() {
    let bodies: [fn() -> Frames; 2] = [|| Frames::exact(["done"]), || Frames::unknown(["done"])];
    for body in bodies {
        let (layer, _) = scripted();
        let layer = layer.keep_header(|_| panic!("the rule's own"));
        let handler = Handler::new(move |_, _| async move {
            let response = Response::builder().header("x-kept", "a");
            Ok(response.body(body()).unwrap())
        });
        let app = handler.under(&layer);
        let first = send(&app, write("k")).await;
        assert_eq!(first.body, "done");
        assert_eq!(first.outcome, Outcome::NotKept(NotKept::RulePanicked));
        send(&app, write("k")).await.assert_in_progress();
        advance(LEASE).await;
        assert_eq!(send(&app, write("k")).await.body, "done");
        assert_eq!(handler.runs(), 2);
    }
}
