//! A store that fails, hangs, or loses its replies, at each of its calls.

use std::time::Duration;

use http::Response;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;
use tower_idempotency::Outcome;
use tower_idempotency::store::StoreErrorKind::{
    Corrupt, Full, Misconfigured, Timeout, Unavailable,
};

use crate::support::{
    Answer, Call, Failure, Fault, Frames, Handled, Handler, LEASE, STORE_TIMEOUT, created,
    numbered, responding, scripted, send, write,
};

const FAULTS: [Fault; 6] = [
    Fault::Fail(Unavailable),
    Fault::Fail(Full),
    Fault::Fail(Corrupt),
    Fault::FailAfter(Unavailable),
    Fault::Hang,
    Fault::HangAfter,
];

type Ending = fn() -> Handled;

/// How long the handler takes: long enough to need renewals.
const HANDLER: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn the_handlers_own_response_comes_at_most_a_store_timeout_later() {
    let endings: [(&str, Ending); 4] = [
        ("ab", || created("ab")),
        ("ab", || Ok(Response::new(Frames::unknown(["a", "b"])))),
        ("busy", || responding(503, Frames::exact(["busy"]))),
        ("", || Err(Failure("the handler fails"))),
    ];
    let calls = [Call::Begin, Call::Complete, Call::Renew, Call::Release];
    let mut faulty: Vec<_> = calls.iter().map(|call| vec![*call]).collect();
    // A store that is down is down for all calls, and the request waits for it once.
    faulty.push(calls.to_vec());
    for calls in faulty {
        for fault in FAULTS {
            for (body, ending) in endings {
                let place = format!("{calls:?} {fault:?} {body}");
                let (layer, store) = scripted();
                for call in &calls {
                    store.always(*call, fault);
                }
                let handler = Handler::new(move |_, _| async move {
                    sleep(HANDLER).await;
                    ending()
                });
                let app = handler.under(&layer);
                let start = Instant::now();
                match app.clone().oneshot(write("k")).await {
                    Ok(response) => {
                        let status = response.status();
                        assert_eq!(status.is_server_error(), body == "busy", "{place}");
                        assert_eq!(Answer::read(response).await.body, body, "{place}");
                    }
                    Err(error) => assert_eq!((error.0, body), ("the handler fails", ""), "{place}"),
                }
                let late = start.elapsed() - HANDLER;
                assert!(late <= STORE_TIMEOUT + MILLISECOND, "{place}: {late:?}");
                assert_eq!(handler.runs(), 1, "{place}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_begin_leaves_less_time_for_complete() {
    let (layer, store) = scripted();
    store.once(Call::Begin, Fault::Late(STORE_TIMEOUT * 7 / 10));
    store.once(Call::Complete, Fault::Hang);
    let app = Handler::creating("{}").under(&layer);
    let start = Instant::now();
    assert_eq!(send(&app, write("k")).await.body, "{}");
    let late = start.elapsed();
    assert!(late <= STORE_TIMEOUT + MILLISECOND, "{late:?}");
}

/// What tokio's timers round up to, once for each timer that a request waits for.
const MILLISECOND: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_complete_that_fails_neither_frees_the_key_nor_loses_the_response() {
    for fault in [Fault::Fail(Unavailable), Fault::Hang] {
        let (layer, store) = scripted();
        store.always(Call::Complete, fault);
        let handler = Handler::new(|_, _| async {
            // So long that a lease which is not renewed from here on ends in the loop below.
            sleep(LEASE * 3 / 10).await;
            created("{}")
        });
        let app = handler.under(&layer);
        let kind = if fault == Fault::Hang {
            Timeout
        } else {
            Unavailable
        };
        let first = send(&app, write("k")).await;
        assert_eq!(first.outcome, Outcome::StoreFailed(kind));
        assert_eq!((first.status.as_u16(), &*first.body), (201, "{}"));
        assert_eq!(layer.detached().count(), 1, "it is tried again");
        for _ in 0..6 {
            send(&app, write("k")).await.assert_in_progress();
            sleep(LEASE / 8).await;
        }
        // As soon as the store is well again, the record is there.
        store.heal();
        layer.detached().wait(LEASE).await.unwrap();
        send(&app, write("k")).await.assert_replay("{}");
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_complete_that_hangs_loses_no_lease_that_is_shorter_than_the_store_timeout() {
    let (layer, store) = scripted();
    let layer = layer
        .lease(Duration::from_millis(600))
        .store_timeout(Duration::from_millis(590));
    store.once(Call::Complete, Fault::Hang);
    let handler = Handler::new(|run, _| async move {
        sleep(Duration::from_millis(190)).await;
        created(numbered(run))
    });
    let app = handler.under(&layer);
    let first = tokio::spawn(app.clone().oneshot(write("k")));
    for _ in 0..77 {
        sleep(Duration::from_millis(10)).await;
        send(&app, write("k")).await.assert_in_progress();
    }
    assert_eq!(
        Answer::read(first.await.unwrap().unwrap()).await.body,
        numbered(1)
    );
    layer.detached().wait(Duration::from_secs(2)).await.unwrap();
    send(&app, write("k")).await.assert_replay(numbered(1));
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_complete_that_always_fails_frees_the_key_when_its_lease_can_no_longer_be_held() {
    let (layer, store) = scripted();
    store.always(Call::Complete, Fault::Fail(Unavailable));
    let handler = Handler::creating("{}");
    let app = handler.under(&layer);
    send(&app, write("k")).await;
    layer.detached().wait(LEASE).await.unwrap();
    send(&app, write("k")).await.assert_in_progress();
    sleep(LEASE).await;
    store.heal();
    send(&app, write("k")).await.assert_run("{}");
    assert_eq!(handler.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_complete_whose_reply_is_lost_is_replayed_all_the_same() {
    for fault in [Fault::FailAfter(Unavailable), Fault::HangAfter] {
        let (layer, store) = scripted();
        store.always(Call::Complete, fault);
        let handler = Handler::creating("{}");
        let app = handler.under(&layer);
        assert_eq!(send(&app, write("k")).await.body, "{}");
        send(&app, write("k")).await.assert_replay("{}");
        layer.detached().wait(LEASE).await.unwrap();
        send(&app, write("k")).await.assert_replay("{}");
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_begin_whose_reply_is_lost_is_settled_by_its_owner() {
    let endings: [Ending; 3] = [
        || created("ab"),
        || Ok(Response::new(Frames::unknown(["a", "b"]))),
        || Err(Failure("the handler fails")),
    ];
    for fault in [Fault::FailAfter(Unavailable), Fault::HangAfter] {
        for ending in endings {
            let (layer, store) = scripted();
            store.once(Call::Begin, fault);
            let handler = Handler::new(move |_, _| async move {
                // Longer than the lease: what may be held is renewed, too.
                sleep(HANDLER).await;
                ending()
            });
            let app = handler.under(&layer);
            let first = tokio::spawn(app.clone().oneshot(write("k")));
            sleep(HANDLER - STORE_TIMEOUT).await;
            send(&app, write("k")).await.assert_in_progress();
            match first.await.unwrap() {
                Ok(response) => {
                    let answer = Answer::read(response).await;
                    assert!(
                        matches!(answer.outcome, Outcome::StoreFailed(_)),
                        "{answer:?}"
                    );
                    assert_eq!(answer.body, "ab");
                    send(&app, write("k")).await.assert_replay("ab");
                    assert_eq!(handler.runs(), 1);
                }
                Err(_) => assert!(store.memory.is_empty()),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_begin_that_was_not_taken_leaves_the_key_alone() {
    for kind in [Full, Corrupt, Misconfigured] {
        let (layer, store) = scripted();
        store.once(Call::Begin, Fault::Fail(kind));
        // So long that a claim would be renewed.
        let handler = Handler::new(|_, _| async {
            sleep(HANDLER).await;
            created("{}")
        });
        send(&handler.under(&layer), write("k")).await;
        assert_eq!(store.calls(), [Call::Begin]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_is_tried_again_in_the_background() {
    for fault in [Fault::Fail(Unavailable), Fault::Hang] {
        let (layer, store) = scripted();
        store.once(Call::Release, fault);
        let handler = Handler::new(|_, _| async { responding(503, Frames::exact(["busy"])) });
        let app = handler.under(&layer);
        let answer = send(&app, write("k")).await;
        assert!(
            matches!(answer.outcome, Outcome::StoreFailed(_)),
            "{answer:?}"
        );
        layer.detached().wait(LEASE).await.unwrap();
        assert!(store.memory.is_empty());
        send(&app, write("k")).await;
        assert_eq!(handler.runs(), 2);
    }
}
