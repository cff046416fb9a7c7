//! A store that fails, where no write may run unprotected; and what handlers see where they may.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderName, Method};
use tokio::time::Instant;
use tower::Layer;
use tower::util::MapRequest;
use tower_idempotency::store::StoreErrorKind::{
    Corrupt, Full, Misconfigured, Timeout, Unavailable,
};
use tower_idempotency::{IdempotencyLayer, Outcome, RequestBody, StoreFailure, Unprotected};

use crate::support::{
    Call, Fault, Frames, Handler, LEASE, STORE_TIMEOUT, Scripted, created, request, scripted, send,
    write,
};

fn closed() -> (IdempotencyLayer<Scripted>, Scripted) {
    let (layer, store) = scripted();
    (layer.on_store_failure(StoreFailure::Closed), store)
}

#[tokio::test(start_paused = true)]
async fn whatever_the_failure_the_handler_does_not_run_and_nobody_waits_longer_than_said() {
    for (fault, kind) in [
        (Fault::Fail(Unavailable), Unavailable),
        (Fault::Fail(Timeout), Timeout),
        (Fault::Fail(Full), Full),
        (Fault::Fail(Corrupt), Corrupt),
        (Fault::Fail(Misconfigured), Misconfigured),
        (Fault::FailAfter(Unavailable), Unavailable),
        (Fault::Hang, Timeout),
        (Fault::HangAfter, Timeout),
    ] {
        let (layer, store) = closed();
        let handler = Handler::creating("done");
        let app = handler.under(&layer);
        store.always(Call::Begin, fault);
        let start = Instant::now();
        let answer = send(&app, write("k")).await;
        let waited = start.elapsed();
        let limit = match fault {
            Fault::Hang | Fault::HangAfter => STORE_TIMEOUT,
            _ => Duration::ZERO,
        };
        assert!(
            waited <= limit + Duration::from_millis(1),
            "{fault:?}: {waited:?}"
        );
        assert_eq!(answer.status, 503, "{fault:?}");
        assert_eq!(answer.headers["retry-after"], "1", "{fault:?}");
        assert_eq!(answer.outcome, Outcome::StoreFailed(kind), "{fault:?}");
        assert!(
            answer.body.contains("idempotency_store_unavailable"),
            "{fault:?}"
        );
        assert_eq!(handler.runs(), 0, "{fault:?}");

        // A claim that was made all the same is given up, so that a retry need not wait for a lease.
        store.heal();
        layer.detached().wait(LEASE).await.unwrap();
        assert!(store.memory.is_empty(), "{fault:?}");
        send(&app, write("k")).await.assert_run("done");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cant_be_completed_changes_nothing_for_its_client() {
    for fault in [Fault::Fail(Unavailable), Fault::Hang] {
        let (layer, store) = closed();
        let handler = Handler::creating("done");
        let app = handler.under(&layer);
        store.once(Call::Complete, fault);
        let answer = send(&app, write("k")).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (201, "done"));
        layer.detached().wait(LEASE).await.unwrap();
        send(&app, write("k")).await.assert_replay("done");
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_guarded_passes_and_what_is_there_answers() {
    let (layer, store) = closed();
    let handler = Handler::creating("done");
    let app = handler.under(&layer);
    send(&app, write("k")).await.assert_run("done");
    send(&app, write("k")).await.assert_replay("done");
    store.always(Call::Begin, Fault::Fail(Unavailable));
    let read = send(&app, request(Method::GET, "/vms", "k")).await;
    assert_eq!(read.status, 201);
    let mut without_key = write("k");
    without_key.headers_mut().remove("idempotency-key");
    assert_eq!(send(&app, without_key).await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn a_handler_sees_whether_it_runs_unprotected_and_why() {
    let (layer, store) = scripted();
    let seen = Arc::new(Mutex::new(None));
    let sees = Arc::clone(&seen);
    let handler = Handler::new(move |_, request| {
        *sees.lock().unwrap() = request.extensions().get::<Unprotected>().copied();
        async { created("done") }
    });
    let app = handler.under(&layer);
    let mut without_key = write("k");
    without_key.headers_mut().remove("idempotency-key");
    let mut without_caller = write("k");
    without_caller.headers_mut().remove("x-api-key");
    store.once(Call::Begin, Fault::Fail(Full));
    for (request, why) in [
        (write("failed"), Some(Unprotected::StoreFailed(Full))),
        (write("k"), None),
        (without_key, Some(Unprotected::NoKey)),
        (without_caller, Some(Unprotected::NoCaller)),
        (request(Method::GET, "/vms", "k"), None),
    ] {
        send(&app, request).await;
        assert_eq!(seen.lock().unwrap().take(), why);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_an_inner_layer_protects_does_not_see_that_an_outer_one_let_it_pass() {
    let (outer, _) = scripted();
    let outer = outer.header_name(HeaderName::from_static("other-key"));
    let (inner, _) = scripted();
    let seen = Arc::new(Mutex::new(Some(Unprotected::Method)));
    let sees = Arc::clone(&seen);
    let handler = Handler::new(move |_, request| {
        *sees.lock().unwrap() = request.extensions().get::<Unprotected>().copied();
        async { created("done") }
    });
    let unwrap =
        |request: http::Request<RequestBody<Frames>>| request.map(|_| Frames::exact(["{}"]));
    let app = outer.layer(MapRequest::new(handler.under(&inner), unwrap));
    send(&app, write("k")).await;
    assert_eq!(seen.lock().unwrap().take(), None);
}
