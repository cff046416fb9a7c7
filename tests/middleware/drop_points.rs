//! A client that leaves at every possible moment: after each number of polls, until all is read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use tokio::time::{Instant, advance, sleep};
use tokio_test::task;
use tower::{Service, ServiceExt};
use tower_idempotency::store::StoreErrorKind::Unavailable;
use tower_idempotency::{Detached, Idempotency, Outcome};

use crate::support::{
    Answer, Call, Failure, Fault, Frames, Handled, Handler, LEASE, Piece, Scripted, pend, scripted,
    send, write,
};

type Finish = fn() -> Handled;

const EXACT: Finish = || Ok(Response::new(Frames::exact(whole())));
const UNKNOWN: Finish = || Ok(Response::new(Frames::unknown(whole())));

/// The pieces of a body that is `ab` in the end.
fn whole() -> [Piece; 5] {
    [
        Piece::Pend,
        Piece::Data("a"),
        Piece::Pend,
        Piece::Data("b"),
        Piece::Pend,
    ]
}

/// What is there after a client has left.
struct Left {
    app: Idempotency<Handler, Scripted>,
    handler: Handler,
    detached: Detached,
    place: String,
}

/// Drops a request after each number of polls until it is done, and checks what is left each time.
///
/// The handler has several awaits, needs a renewal, and then ends as `first` says in its first run, and well in
/// others. The store is pending at each call, and otherwise works as `script` says.
async fn drop_everywhere(first: Finish, script: impl Fn(&Scripted), check: impl AsyncFn(&Left)) {
    for polls in 0.. {
        assert!(polls < 100, "the request never ends");
        let (layer, store) = scripted();
        for call in [Call::Begin, Call::Complete, Call::Renew, Call::Release] {
            store.always(call, Fault::Pend(5));
        }
        script(&store);
        let handler = Handler::new(move |run, _| async move {
            pend(5).await;
            // Long enough for a renewal.
            sleep(LEASE / 2).await;
            if run == 1 { first() } else { EXACT() }
        });
        let mut app = handler.under(&layer);
        let future = app.ready().await.unwrap().call(write("k"));
        let mut request = task::spawn(async move {
            let mut body = future.await?.into_body();
            while let Some(frame) = body.frame().await {
                frame.map_err(|_| Failure("the body broke"))?;
            }
            Ok::<_, Failure>(())
        });
        let mut done = false;
        for _ in 0..polls {
            // A panic is an end, too.
            let polled = catch_unwind(AssertUnwindSafe(|| request.poll().is_ready()));
            done = polled.unwrap_or(true);
            if done {
                break;
            }
            if !request.is_woken() {
                advance(LEASE / 6).await;
            }
        }
        drop(request);
        check(&Left {
            app,
            handler,
            detached: layer.detached(),
            place: format!("dropped after {polls} polls"),
        })
        .await;
        if done {
            assert!(polls > 5, "the request was pending in few places only");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_anywhere_a_request_that_has_begun_runs_once_and_is_replayed() {
    for finish in [EXACT, UNKNOWN] {
        drop_everywhere(
            finish,
            |_| {},
            async |left| {
                let has_begun = left.handler.runs() == 1;
                left.detached.wait(LEASE * 2).await.expect(&left.place);
                // A request that was dropped before its handler ran does not run afterwards.
                assert_eq!(left.handler.runs() == 1, has_begun, "{}", left.place);
                let retry = send(&left.app, write("k")).await;
                let replayed = retry.outcome == Outcome::Replayed;
                assert_eq!(replayed, has_begun, "{}: {retry:?}", left.place);
                assert_eq!(retry.body, "ab", "{}", left.place);
                assert_eq!(left.handler.runs(), 1, "{}", left.place);
            },
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_anywhere_a_request_that_fails_frees_its_key() {
    let failing: [Finish; 5] = [
        || Err(Failure("the handler fails")),
        || panic!("the handler panics"),
        || {
            Ok(Response::builder()
                .status(500)
                .body(Frames::exact(whole()))
                .unwrap())
        },
        || {
            let pieces = [Piece::Pend, Piece::Data("a"), Piece::Pend, Piece::Break];
            Ok(Response::new(Frames::exact(pieces)))
        },
        || {
            let pieces = [Piece::Pend, Piece::Data("a"), Piece::Pend, Piece::Break];
            Ok(Response::new(Frames::unknown(pieces)))
        },
    ];
    for finish in failing {
        drop_everywhere(
            finish,
            |_| {},
            async |left| {
                let has_begun = left.handler.runs() == 1;
                left.detached.wait(LEASE * 2).await.expect(&left.place);
                if !has_begun {
                    assert_eq!(left.handler.runs(), 0, "{}", left.place);
                    // The key is free, and so the first run is still to come.
                    let first = left.app.clone().oneshot(write("k"));
                    end(first).await;
                    assert_eq!(left.handler.runs(), 1, "{}", left.place);
                    left.detached.wait(LEASE * 2).await.expect(&left.place);
                }
                let retry = send(&left.app, write("k")).await;
                assert_eq!(retry.outcome, Outcome::Kept, "{}", left.place);
                assert_eq!(left.handler.runs(), 2, "{}", left.place);
            },
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_anywhere_with_a_failing_store_no_key_is_stuck_past_its_lease() {
    let faults = [
        Fault::Fail(Unavailable),
        Fault::FailAfter(Unavailable),
        Fault::Hang,
        Fault::HangAfter,
    ];
    for call in [Call::Begin, Call::Complete, Call::Renew, Call::Release] {
        for fault in faults {
            for finish in [EXACT, UNKNOWN, || Err(Failure("the handler fails"))] {
                let script = |store: &Scripted| store.always(call, fault);
                drop_everywhere(finish, script, async |left| {
                    assert_ends(left, &format!("{call:?} {fault:?}")).await;
                })
                .await;
            }
        }
    }
}

/// Waits for a future that may panic, which counts as an end.
async fn end<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) {
    drop(tokio::spawn(future).await);
}

/// Checks that retries end in a replay or in a run of their own, within a lease and little more.
async fn assert_ends(left: &Left, script: &str) {
    let place = format!("{script}, {}", left.place);
    // The handler's own time; then as long as what failed is tried again; then the lease itself.
    let longest = LEASE / 2 + LEASE + LEASE + Duration::from_millis(200);
    let start = Instant::now();
    loop {
        assert!(left.handler.runs() <= 1, "{place}");
        assert!(start.elapsed() < longest, "{place}");
        let retry = left.app.clone().oneshot(write("k")).await;
        let Ok(response) = retry else {
            // A run of its own, which has overtaken the one in the background.
            break;
        };
        let retry = Answer::read(response).await;
        match retry.outcome {
            Outcome::InProgress => sleep(Duration::from_millis(100)).await,
            Outcome::Replayed => {
                assert_eq!((&*retry.body, left.handler.runs()), ("ab", 1), "{place}");
                break;
            }
            _ => {
                assert_eq!(retry.body, "ab", "{place}");
                assert!(left.handler.runs() <= 2, "{place}");
                break;
            }
        }
    }
}
