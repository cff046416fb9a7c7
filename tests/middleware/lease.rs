//! Leases: renewed while a handler runs, and fenced when one is lost.

use std::time::Duration;

use http::Response;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;
use tower_idempotency::store::StoreErrorKind::Unavailable;
use tower_idempotency::{IdempotencyLayer, MemoryStore, NotKept, Outcome};

use crate::support::{
    Answer, Call, Failure, Fault, Frames, Gate, Handler, LEASE, Piece, created, numbered, scripted,
    send, write,
};

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test(start_paused = true)]
async fn a_handler_slower_than_its_lease_keeps_its_key() {
    let layer = IdempotencyLayer::new(MemoryStore::new()).lease(millis(600));
    let handler = Handler::new(|_, _| async {
        sleep(millis(2500)).await;
        created("{}")
    });
    let app = handler.under(&layer);
    let first = tokio::spawn(app.clone().oneshot(write("k")));
    let mut refused = 0;
    loop {
        sleep(millis(40)).await;
        if first.is_finished() {
            break;
        }
        send(&app, write("k")).await.assert_in_progress();
        refused += 1;
    }
    assert!(refused > 60, "{refused}");
    Answer::read(first.await.unwrap().unwrap())
        .await
        .assert_run("{}");
    send(&app, write("k")).await.assert_replay("{}");
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_most_of_which_is_over_when_the_store_replies_is_renewed_in_time() {
    let (layer, store) = scripted();
    let layer = layer.lease(millis(600)).store_timeout(millis(500));
    store.once(Call::Begin, Fault::LateReply(millis(450)));
    let handler = Handler::new(|run, _| async move {
        sleep(millis(600)).await;
        created(numbered(run))
    });
    let app = handler.under(&layer);
    let first = tokio::spawn(app.clone().oneshot(write("k")));
    for _ in 0..100 {
        sleep(millis(10)).await;
        send(&app, write("k")).await.assert_in_progress();
    }
    Answer::read(first.await.unwrap().unwrap())
        .await
        .assert_run(numbered(1));
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_whose_client_has_left_keeps_its_key_too() {
    let layer = IdempotencyLayer::new(MemoryStore::new()).lease(millis(600));
    let handler = Handler::new(|_, _| async {
        sleep(millis(2500)).await;
        created("{}")
    });
    let app = handler.under(&layer);
    let left = timeout(millis(100), app.clone().oneshot(write("k"))).await;
    assert!(left.is_err());
    for _ in 0..59 {
        send(&app, write("k")).await.assert_in_progress();
        sleep(millis(40)).await;
    }
    layer.detached().wait(millis(100)).await.unwrap();
    send(&app, write("k")).await.assert_replay("{}");
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_keeps_its_key_while_its_handler_is_slow_and_not_while_its_client_is() {
    let layer = IdempotencyLayer::new(MemoryStore::new()).lease(millis(600));
    let exact: fn(Piece) -> Frames = |wait| Frames::exact([Piece::Data("a"), wait, "b".into()]);
    let unknown: fn(Piece) -> Frames = |wait| Frames::unknown([Piece::Data("a"), wait, "b".into()]);
    for (key, body) in [("exact", exact), ("unknown", unknown)] {
        let handler = Handler::new(move |_, _| async move {
            let wait = Piece::Until(Box::pin(sleep(millis(2500))));
            Ok(Response::new(body(wait)))
        });
        let app = handler.under(&layer);
        let first = tokio::spawn(app.clone().oneshot(write(key)));
        for _ in 0..60 {
            sleep(millis(40)).await;
            send(&app, write(key)).await.assert_in_progress();
        }
        let response = first.await.unwrap().unwrap();
        // Its client has not read a byte yet.
        sleep(millis(200)).await;
        send(&app, write(key)).await.assert_replay("ab");
        Answer::read(response).await.assert_run("ab");
        send(&app, write(key)).await.assert_replay("ab");
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_once_loses_nothing() {
    for fault in [Fault::Fail(Unavailable), Fault::Hang] {
        let (layer, store) = scripted();
        store.once(Call::Renew, fault);
        let gate = Gate::new();
        let handler = Handler::at(&gate);
        let app = handler.under(&layer);
        let first = tokio::spawn(app.clone().oneshot(write("k")));
        sleep(LEASE * 2).await;
        send(&app, write("k")).await.assert_in_progress();
        gate.open();
        Answer::read(first.await.unwrap().unwrap())
            .await
            .assert_run(numbered(1));
    }
}

#[tokio::test(start_paused = true)]
async fn who_lost_its_lease_can_not_complete_what_another_holds() {
    let (layer, store) = scripted();
    store.always(Call::Renew, Fault::Fail(Unavailable));
    let (slow, fast) = (Gate::new(), Gate::new());
    let gates = [slow.clone(), fast.clone()];
    let handler = Handler::new(move |run, _| {
        let gate = gates[run - 1].clone();
        async move {
            gate.pass().await;
            created(numbered(run))
        }
    });
    let app = handler.under(&layer);
    let first = tokio::spawn(app.clone().oneshot(write("k")));
    slow.reached().await;
    sleep(LEASE).await;
    store.heal();
    let second = tokio::spawn(app.clone().oneshot(write("k")));
    fast.reached().await;

    slow.open();
    let first = Answer::read(first.await.unwrap().unwrap()).await;
    assert_eq!(first.outcome, Outcome::NotKept(NotKept::LeaseLost));
    assert_eq!(first.body, numbered(1), "its client gets its own response");
    send(&app, write("k")).await.assert_in_progress();

    fast.open();
    Answer::read(second.await.unwrap().unwrap())
        .await
        .assert_run(numbered(2));
    send(&app, write("k")).await.assert_replay(numbered(2));
}

#[tokio::test(start_paused = true)]
async fn who_lost_its_lease_can_not_release_what_another_holds_or_has_completed() {
    let failing: [fn() -> crate::support::Handled; 3] = [
        || Err(Failure("the handler fails")),
        || panic!("the handler panics"),
        || {
            Ok(Response::builder()
                .status(500)
                .body(Frames::default())
                .unwrap())
        },
    ];
    for finish in failing {
        for completed in [false, true] {
            let (layer, store) = scripted();
            store.always(Call::Renew, Fault::Fail(Unavailable));
            let (slow, fast) = (Gate::new(), Gate::new());
            let gates = [slow.clone(), fast.clone()];
            let handler = Handler::new(move |run, _| {
                let gate = gates[run - 1].clone();
                async move {
                    gate.pass().await;
                    if run == 1 {
                        finish()
                    } else {
                        created(numbered(run))
                    }
                }
            });
            let app = handler.under(&layer);
            let first = tokio::spawn(app.clone().oneshot(write("k")));
            slow.reached().await;
            sleep(LEASE).await;
            store.heal();
            let second = tokio::spawn(app.clone().oneshot(write("k")));
            fast.reached().await;
            if completed {
                fast.open();
                Answer::read(second.await.unwrap().unwrap())
                    .await
                    .assert_run(numbered(2));
                slow.open();
                let _ = first.await;
            } else {
                slow.open();
                let _ = first.await;
                send(&app, write("k")).await.assert_in_progress();
                fast.open();
                Answer::read(second.await.unwrap().unwrap())
                    .await
                    .assert_run(numbered(2));
            }
            send(&app, write("k")).await.assert_replay(numbered(2));
            assert_eq!(handler.runs(), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_process_died_ends_with_its_lease() {
    let (layer, _) = scripted();
    let gate = Gate::new();
    let handler = Handler::at(&gate);
    let app = handler.under(&layer);
    // Leaked, the future neither goes on nor is dropped: as if its process were gone.
    let mut future = tokio_test::task::spawn(app.clone().oneshot(write("k")));
    assert!(future.poll().is_pending());
    std::mem::forget(future);
    sleep(LEASE - millis(1)).await;
    send(&app, write("k")).await.assert_in_progress();
    sleep(millis(1)).await;
    send(&app, write("k")).await.assert_run(numbered(2));
}

#[tokio::test(start_paused = true)]
async fn the_greatest_settings_overflow_nothing() {
    for (fault, body) in [
        (Fault::Pend(3), || Frames::exact(["{}"])),
        (Fault::Pend(3), || Frames::unknown(["{", "}"])),
        (Fault::Fail(Unavailable), || Frames::exact(["{}"])),
    ] as [(Fault, fn() -> Frames); 3]
    {
        let (layer, store) = scripted();
        let layer = layer
            .ttl(Duration::MAX)
            .lease(Duration::MAX)
            .store_timeout(Duration::MAX)
            .max_response_bytes(usize::MAX)
            .max_drained_bytes(usize::MAX)
            .drain_timeout(Duration::MAX)
            .max_detached(Duration::MAX, usize::MAX);
        store.once(Call::Begin, Fault::Pend(3));
        store.once(Call::Complete, fault);
        let handler = Handler::new(move |_, _| async move {
            sleep(millis(100)).await;
            Ok(Response::new(body()))
        });
        let app = handler.under(&layer);
        // Its client leaves when the head is there, and so the body is read on in the background.
        drop(app.clone().oneshot(write("k")).await.unwrap());
        layer.detached().wait(Duration::MAX).await.unwrap();
        send(&app, write("k")).await.assert_replay("{}");
        assert_eq!(handler.runs(), 1);
    }
}
