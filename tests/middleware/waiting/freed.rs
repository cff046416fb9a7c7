//! The first request comes to nothing, and its key is free.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, Request, Response};
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt};
use tower_idempotency::store::StoreErrorKind::Full;
use tower_idempotency::{Outcome, RequestBody};

use super::{LONG, SECOND, assert_nobody_waits, wait, waiting};
use crate::support::{
    Answer, Call, Failure, Fault, Frames, Gate, Handled, Handler, Piece, created, numbered, read,
    request, responding, send, write,
};

/// How the first request ends.
#[derive(Clone, Copy, Debug)]
enum End {
    With500,
    WithAnError,
    InAPanic,
    InABrokenBody,
    InABodyThatBreaksLater,
    WithItsClient,
}

async fn end(end: End) -> Handled {
    match end {
        End::With500 => responding(500, Frames::default()),
        End::WithAnError => Err(Failure("no")),
        End::InAPanic => panic!("no"),
        End::InABrokenBody => responding(201, Frames::exact([Piece::Break])),
        End::InABodyThatBreaksLater => {
            let later = Piece::Until(Box::pin(sleep(SECOND)));
            responding(
                201,
                Frames::unknown([Piece::Data("a"), later, Piece::Break]),
            )
        }
        End::WithItsClient => std::future::pending().await,
    }
}

#[tokio::test(start_paused = true)]
async fn one_waiter_runs_at_once_and_the_others_wait_for_it() {
    for how in [
        End::With500,
        End::WithAnError,
        End::InAPanic,
        End::InABrokenBody,
        End::InABodyThatBreaksLater,
        End::WithItsClient,
    ] {
        let gate = Gate::new();
        let at_gate = gate.clone();
        let at_once = Arc::new(AtomicUsize::new(0));
        let handler = Handler::new(move |run, _| {
            let (gate, at_once) = (at_gate.clone(), Arc::clone(&at_once));
            async move {
                if run == 1 {
                    gate.pass().await;
                    return end(how).await;
                }
                assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0, "one at once");
                sleep(SECOND).await;
                at_once.fetch_sub(1, Ordering::SeqCst);
                created(numbered(run))
            }
        });
        // Each instance has to be waited for before it is ready.
        let handler = handler.that_pends();
        let (layer, _) = waiting(LONG);
        let layer = layer.max_detached(LONG, 0);
        let app = handler.under(&layer);
        let first = tokio::spawn({
            let app = app.clone();
            async move { read(app.oneshot(write("k")).await.unwrap().into_body()).await }
        });
        gate.reached().await;
        let mut answers = wait(&layer, &app, 20).await;
        let freed = Instant::now();
        gate.open();
        let freed = match how {
            End::WithItsClient => {
                tokio::task::yield_now().await;
                first.abort();
                freed
            }
            End::InABodyThatBreaksLater => freed + SECOND,
            _ => freed,
        };
        let _ = first.await;
        let mut runs = 0;
        while let Some(answer) = answers.join_next().await {
            let (at, answer) = answer.unwrap();
            match answer.outcome {
                Outcome::Kept => runs += 1,
                _ => answer.assert_replay(numbered(2)),
            }
            assert_eq!(at, freed + SECOND, "{how:?}");
        }
        assert_eq!((runs, handler.runs()), (1, 2), "{how:?}");
        assert_nobody_waits(&layer);
    }
}

#[tokio::test(start_paused = true)]
async fn if_each_run_comes_to_nothing_the_waiters_run_one_after_the_other() {
    let handler = Handler::new(|_, _| async {
        sleep(SECOND).await;
        responding(500, Frames::default())
    });
    let (layer, store) = waiting(LONG);
    let app = handler.under(&layer);
    let start = Instant::now();
    let first = tokio::spawn(app.clone().oneshot(write("k")));
    tokio::task::yield_now().await;
    let mut answers = wait(&layer, &app, 10).await;
    first.await.unwrap().unwrap();
    while let Some(answer) = answers.join_next().await {
        assert_eq!(answer.unwrap().1.status, 500);
    }
    assert_eq!(handler.runs(), 11);
    assert_eq!(start.elapsed(), SECOND * 11);
    // Not all of them ask whenever the key is free: two for each that comes, one for each that runs, and
    // one in each of the turns, which were at most two a second after the first few.
    let begins = store.calls();
    let begins = begins.iter().filter(|call| **call == Call::Begin).count();
    assert!(begins <= 2 * 11 + 11 + 2 * 11 + 10, "{begins}");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_woken_and_leaves_has_another_woken() {
    let gate = Gate::new();
    let at_gate = gate.clone();
    let handler = Handler::new(move |run, _| {
        let gate = at_gate.clone();
        async move {
            if run == 1 {
                gate.pass().await;
                return responding(500, Frames::default());
            }
            created(numbered(run))
        }
    });
    let (layer, store) = waiting(LONG);
    let app = handler.under(&layer);
    let mut first = task::spawn(app.clone().oneshot(write("k")));
    assert_pending!(first.poll());
    let mut waiters = [(); 3].map(|()| task::spawn(app.clone().oneshot(write("k"))));
    for waiter in &mut waiters {
        assert_pending!(waiter.poll());
    }
    gate.open();
    first.await.unwrap();
    let [one, mut two, mut three] = waiters;
    assert_eq!((one.is_woken(), two.is_woken()), (true, false));
    // Before it is polled.
    drop(one);
    assert_eq!((two.is_woken(), three.is_woken()), (true, false));
    // While it asks the store, which has claimed the key by then.
    store.once(Call::Begin, Fault::HangAfter);
    assert_pending!(two.poll());
    drop(two);
    assert!(three.is_woken());
    let three = tokio_test::assert_ready_ok!(three.poll());
    Answer::read(three).await.assert_run(numbered(2));
    assert_nobody_waits(&layer);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_claimed_for_another_target_meanwhile_is_refused() {
    let gate = Gate::new();
    let at_gate = gate.clone();
    let handler = Handler::new(move |run, _| {
        let gate = at_gate.clone();
        async move {
            if run == 1 {
                gate.pass().await;
                return responding(500, Frames::default());
            }
            created(numbered(run))
        }
    });
    let (layer, store) = waiting(LONG);
    let app = handler.under(&layer);
    let first = tokio::spawn(app.clone().oneshot(write("k")));
    gate.reached().await;
    let mut answers = wait(&layer, &app, 1).await;
    // The waiter that is woken finds no room, and so the other target gets the key.
    store.once(Call::Begin, Fault::Fail(Full));
    gate.open();
    first.await.unwrap().unwrap();
    tokio::task::yield_now().await;
    let other = send(&app, request(Method::POST, "/vms/1", "k")).await;
    other.assert_run(numbered(2));
    let (_, answer) = answers.join_next().await.unwrap().unwrap();
    assert_eq!(answer.outcome, Outcome::KeyReused);
    assert_eq!(handler.runs(), 2);
}

/// A handler that is ready once, and then never again.
#[derive(Clone)]
struct ReadyOnce(Handler, usize);

impl Service<Request<RequestBody<Frames>>> for ReadyOnce {
    type Response = Response<Frames>;
    type Error = Failure;
    type Future = <Handler as Service<Request<RequestBody<Frames>>>>::Future;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Failure>> {
        self.1 += 1;
        if self.1 > 1 {
            return std::task::Poll::Ready(Err(Failure("not ready any more")));
        }
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<RequestBody<Frames>>) -> Self::Future {
        self.0.call(request)
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_service_is_not_ready_any_more_fails_and_leaves_the_key_to_the_next() {
    let gate = Gate::new();
    let at_gate = gate.clone();
    let handler = Handler::new(move |_, _| {
        let gate = at_gate.clone();
        async move {
            gate.pass().await;
            responding(500, Frames::default())
        }
    });
    let (layer, store) = waiting(LONG);
    let app = layer.layer(ReadyOnce(handler.clone(), 0));
    let first = tokio::spawn(app.clone().oneshot(write("k")));
    gate.reached().await;
    let waiter = tokio::spawn(app.clone().oneshot(write("k")));
    sleep(Duration::from_millis(1)).await;
    gate.open();
    first.await.unwrap().unwrap();
    let error = waiter.await.unwrap().unwrap_err();
    assert_eq!(error, Failure("not ready any more"));
    assert!(store.memory.is_empty(), "the key is free");
    assert_eq!(handler.runs(), 1);
}
