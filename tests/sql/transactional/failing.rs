//! Handlers that do something else, after they have kept a response, than to commit and return it.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use support::{Answer, Call, Failure, Fault, Log, soon, until};
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{NotKept, Outcome, TransactionalErrorKind};

use super::app::{App, Handled, Run, created, respond};
use super::bank::Bank;

super::on_each!(
    a_failure_after_a_commit_is_answered_with_the_kept_response,
    a_failure_after_a_rollback_goes_out_and_frees_the_key,
    a_commit_that_is_still_on_its_way_is_waited_for,
    a_handler_that_gives_up_waiting_and_commits_is_answered_with_the_kept_response,
    a_panic_passes_and_what_is_true_stays,
    a_commit_that_is_refused_is_no_success,
    a_store_that_cant_say_is_answered_with_503_and_the_retry_finds_out,
    a_handler_that_never_commits_is_found_and_its_key_is_free,
    a_handler_that_keeps_twice_in_one_transaction_is_found_and_rolled_back,
    a_handler_that_keeps_again_after_a_commit_is_answered_with_the_kept_response,
    a_record_of_another_request_is_no_answer_for_this_one,
);

/// How a handler fails after `in_transaction`.
#[derive(Clone, Copy, Debug)]
enum Failing {
    Error,
    ServerError,
    /// A response that would be kept, but is not the one that is.
    AnotherResponse,
    /// The response of the transaction, without what it is recognised by.
    CopiedResponse,
}

const ALL: [Failing; 4] = [
    Failing::Error,
    Failing::ServerError,
    Failing::AnotherResponse,
    Failing::CopiedResponse,
];

impl Failing {
    fn fail(self) -> Handled {
        match self {
            Self::Error => Err(Failure("the handler's own")),
            Self::ServerError => Ok(respond(500, Body::from("broken"))),
            Self::AnotherResponse => Ok(respond(200, Body::from("another"))),
            Self::CopiedResponse => Ok(created(1)),
        }
    }
}

/// A handler that pays as it should, but in its first run for a key fails like this, before its
/// commit or after.
fn failing<B: Bank>(bank: &Arc<B>, failing: Failing, commits: bool) -> App<B> {
    App::new(bank, move |run: Run<B>| async move {
        let (tx, response) = match run.pay_and_keep().await {
            Ok(kept) => kept,
            Err(problem) => return Ok(problem),
        };
        if run.number == 1 {
            if commits {
                B::commit(tx).await.unwrap();
            }
            return failing.fail();
        }
        B::commit(tx).await.unwrap();
        Ok(response)
    })
}

async fn a_failure_after_a_commit_is_answered_with_the_kept_response<B: Bank>(bank: Arc<B>) {
    let log = Log::begin();
    for (number, how) in (1..).zip(ALL) {
        let (app, key) = (failing(&bank, how, true), format!("{how:?}"));
        let first = app.send(&key).await.unwrap();
        first.assert_replay("{\"run\":1}");
        assert_eq!(first.status, 201);
        assert!(log.take().contains("the client gets the kept one"));
        app.send(&key).await.unwrap().assert_replay("{\"run\":1}");
        assert_eq!((bank.payments().await, app.runs()), (number, 1), "{how:?}");
    }
}

async fn a_failure_after_a_rollback_goes_out_and_frees_the_key<B: Bank>(bank: Arc<B>) {
    for (number, how) in (1..).zip(ALL) {
        let (app, key) = (failing(&bank, how, false), format!("{how:?}"));
        match (how, app.send(&key).await) {
            (Failing::Error, Err(failure)) => assert_eq!(failure.0, "the handler's own"),
            (_, Ok(answer)) => {
                assert!(!answer.is_replay());
                assert_eq!(answer.outcome, Outcome::NotKept(NotKept::NotCommitted));
                let Ok(failure) = how.fail() else {
                    panic!("{answer:?}");
                };
                assert_eq!(answer.status, failure.status());
            }
            (_, Err(failure)) => panic!("{failure:?}"),
        }
        assert_eq!(bank.payments().await, number - 1, "{how:?}");
        // At once, with nothing to wait for.
        app.send(&key).await.unwrap().assert_run("{\"run\":2}");
        app.send(&key).await.unwrap().assert_replay("{\"run\":2}");
        assert_eq!((bank.payments().await, app.runs()), (number, 2), "{how:?}");
    }
}

/// What is under the key when its record is written.
#[derive(Clone, Copy, Debug)]
enum Claimed {
    Held,
    /// The claim's lease has ended.
    Ended,
    /// The store has failed to claim the key.
    Absent,
}

async fn a_commit_that_is_still_on_its_way_is_waited_for<B: Bank>(bank: Arc<B>) {
    let cases = [Claimed::Held, Claimed::Ended, Claimed::Absent];
    let all = cases.map(|claimed| [(claimed, true), (claimed, false)]);
    let mut paid = 0;
    for (claimed, commits) in all.into_iter().flatten() {
        let app = App::new(&bank, move |run: Run<B>| async move {
            if matches!(claimed, Claimed::Ended) && run.number == 1 {
                run.bank.expire().await;
            }
            let (tx, response) = run.pay_and_keep().await.unwrap();
            if run.number > 1 {
                B::commit(tx).await.unwrap();
                return Ok(response);
            }
            tokio::spawn(async move {
                while !run.store.calls().contains(&Call::Release) {
                    tokio::task::yield_now().await;
                }
                // A read would have been answered by then.
                tokio::time::sleep(Duration::from_millis(100)).await;
                if commits {
                    B::commit(tx).await.unwrap();
                }
            });
            Err(Failure("the connection broke"))
        });
        if matches!(claimed, Claimed::Absent) {
            let fault = Fault::Fail(StoreErrorKind::Full);
            app.store.once(Call::Begin, fault);
        }
        let key = format!("{claimed:?} {commits}");
        let first = app.send(&key).await;
        if commits {
            first.unwrap().assert_replay("{\"run\":1}");
        } else {
            assert_eq!(first.unwrap_err().0, "the connection broke", "{key}");
            app.send(&key).await.unwrap().assert_run("{\"run\":2}");
        }
        paid += 1;
        assert_eq!(bank.payments().await, paid, "{key}");
    }
}

async fn a_handler_that_gives_up_waiting_and_commits_is_answered_with_the_kept_response<B: Bank>(
    bank: Arc<B>,
) {
    let app = App::new(&bank, |run: Run<B>| async move {
        let mut tx = run.pay().await;
        run.store.once(Call::Complete, Fault::HangAfter);
        let keeping = run.try_to_keep_in(&mut tx, created(1));
        let given_up = tokio::time::timeout(Duration::from_millis(200), keeping).await;
        assert!(given_up.is_err());
        B::commit(tx).await.unwrap();
        Ok(respond(500, Body::from("too slow")))
    });
    app.send("key").await.unwrap().assert_replay("{\"run\":1}");
    app.send("key").await.unwrap().assert_replay("{\"run\":1}");
    assert_eq!((bank.payments().await, app.runs()), (1, 1));
}

async fn a_panic_passes_and_what_is_true_stays<B: Bank>(bank: Arc<B>) {
    for (commits, runs) in [(true, 1), (false, 2)] {
        let app = App::new(&bank, move |run: Run<B>| async move {
            let (tx, response) = run.pay_and_keep().await.unwrap();
            if run.number > 1 || commits {
                B::commit(tx).await.unwrap();
            }
            if run.number == 1 {
                std::panic::panic_any("the handler's own");
            }
            Ok(response)
        });
        let key = format!("{commits}");
        let sent = catch(app.send(&key)).await;
        assert_eq!(
            *sent.unwrap_err().downcast::<&str>().unwrap(),
            "the handler's own"
        );
        let answer = no_longer_in_progress(&app, &key).await;
        let body = format!("{{\"run\":{runs}}}");
        if commits {
            answer.assert_replay(&body);
        } else {
            answer.assert_run(&body);
        }
        assert_eq!(app.runs(), runs);
    }
    assert_eq!(bank.payments().await, 2);
}

async fn a_commit_that_is_refused_is_no_success<B: Bank>(bank: Arc<B>) {
    let app = App::new(&bank, |run: Run<B>| async move {
        let (mut tx, response) = run.pay_and_keep().await.unwrap();
        if run.number == 1 {
            B::break_commit(&mut tx).await.unwrap();
        }
        match B::commit(tx).await {
            Ok(()) => Ok(response),
            Err(_) => Ok(respond(409, Body::from("refused"))),
        }
    });
    let first = app.send("key").await.unwrap();
    assert_eq!(first.status, 409);
    assert_eq!(first.body, "refused");
    assert_eq!(first.outcome, Outcome::NotKept(NotKept::NotCommitted));
    assert_eq!((bank.payments().await, bank.entries().await), (0, 0));
    app.send("key").await.unwrap().assert_run("{\"run\":2}");
    assert_eq!(bank.payments().await, 1);
}

async fn a_store_that_cant_say_is_answered_with_503_and_the_retry_finds_out<B: Bank>(bank: Arc<B>) {
    for (number, (fault, commits)) in (1..).zip([
        (Fault::Fail(StoreErrorKind::Unavailable), true),
        (Fault::Fail(StoreErrorKind::Unavailable), false),
        (Fault::Hang, true),
        (Fault::Hang, false),
    ]) {
        let timeout = match fault {
            Fault::Hang => Duration::from_millis(200),
            _ => Duration::from_secs(20),
        };
        let app = failing(&bank, Failing::ServerError, commits);
        let app = app.with(|layer| layer.store_timeout(timeout));
        let key = format!("{fault:?} {commits}");
        app.store.once(Call::Release, fault);
        let first = app.send(&key).await.unwrap();
        assert_eq!(first.status, StatusCode::SERVICE_UNAVAILABLE, "{first:?}");
        assert_eq!(first.headers["retry-after"], "1");
        assert!(matches!(first.outcome, Outcome::StoreFailed(_)));

        let app = app.with(|layer| layer.store_timeout(Duration::from_secs(20)));
        let retry = no_longer_in_progress(&app, &key).await;
        if commits {
            retry.assert_replay("{\"run\":1}");
        } else {
            retry.assert_run("{\"run\":2}");
        }
        assert_eq!(bank.payments().await, number);
    }
}

async fn a_handler_that_never_commits_is_found_and_its_key_is_free<B: Bank>(bank: Arc<B>) {
    let log = Log::begin();
    let app = App::new(&bank, |run: Run<B>| async move {
        let (tx, response) = run.pay_and_keep().await.unwrap();
        if run.number > 1 {
            B::commit(tx).await.unwrap();
        }
        Ok(response)
    });
    let first = app.send("key").await.unwrap();
    assert_eq!(first.body, "{\"run\":1}");
    until_released(&app, 1).await;
    assert!(log.take().contains("did not commit"));
    app.send("key").await.unwrap().assert_run("{\"run\":2}");
    assert_eq!(bank.payments().await, 1);

    // One that does is not taken for such.
    until_released(&app, 2).await;
    assert!(!log.take().contains("did not commit"));
}

async fn a_handler_that_keeps_twice_in_one_transaction_is_found_and_rolled_back<B: Bank>(
    bank: Arc<B>,
) {
    let log = Log::begin();
    let app = App::new(&bank, |run: Run<B>| async move {
        let (mut tx, _) = run.pay_and_keep().await.unwrap();
        let again = run.try_to_keep_in(&mut tx, created(1)).await;
        let error = again.unwrap_err();
        assert_eq!(error.kind(), TransactionalErrorKind::AlreadyKept);
        drop(tx);
        Ok(error.into())
    });
    let answer = app.send("key").await.unwrap();
    assert_eq!(answer.status, 409);
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!((bank.payments().await, bank.entries().await), (0, 0));
    assert!(log.take().contains("called in_transaction again"));
}

async fn a_handler_that_keeps_again_after_a_commit_is_answered_with_the_kept_response<B: Bank>(
    bank: Arc<B>,
) {
    let app = App::new(&bank, |run: Run<B>| async move {
        let (tx, _) = run.pay_and_keep().await.unwrap();
        B::commit(tx).await.unwrap();
        // As if the commit's answer had been lost.
        Ok(match run.pay_and_keep().await {
            Ok(_) => respond(200, Body::from("twice")),
            Err(problem) => problem,
        })
    });
    app.send("key").await.unwrap().assert_replay("{\"run\":1}");
    assert_eq!(bank.payments().await, 1);
}

async fn a_record_of_another_request_is_no_answer_for_this_one<B: Bank>(bank: Arc<B>) {
    let other = Arc::new(Mutex::new(None::<App<B>>));
    let within = Arc::clone(&other);
    let app = App::new(&bank, move |run: Run<B>| {
        let other = within.lock().unwrap().take();
        async move {
            let (tx, _) = run.pay_and_keep().await.unwrap();
            drop(tx);
            // Its lease is over, and the key is used for something else.
            run.bank.expire().await;
            let mut request = super::app::request(&run.key, Body::from("{}"));
            *request.uri_mut() = "/elsewhere".parse().unwrap();
            let elsewhere = other.unwrap().send_request(request).await.unwrap();
            elsewhere.assert_run("{\"run\":1}");
            Ok(respond(500, Body::from("broken")))
        }
    });
    let elsewhere = App::new(&bank, |run: Run<B>| async move { Ok(created(run.number)) });
    *other.lock().unwrap() = Some(elsewhere);
    let answer = app.send("key").await.unwrap();
    assert_eq!(answer.status, 500, "{answer:?}");
    assert_eq!(app.send("key").await.unwrap().status, 422);
    assert_eq!(bank.payments().await, 0);
}

/// Sends a request again until the first one is settled in the background, which must not take a
/// lease.
async fn no_longer_in_progress<B: Bank>(app: &App<B>, key: &str) -> Answer<Bytes> {
    soon(async {
        loop {
            let answer = app.send(key).await.unwrap();
            if answer.outcome != Outcome::InProgress {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// Waits until the store was asked so many times whether a handler has committed.
async fn until_released<B: Bank>(app: &App<B>, times: usize) {
    let is_released = || {
        let calls = app.store.calls();
        calls.iter().filter(|call| **call == Call::Release).count() == times
    };
    until(is_released).await;
    let detached = app.layer.detached();
    detached.wait(Duration::from_secs(20)).await.unwrap();
}

async fn catch<T>(future: impl Future<Output = T>) -> Result<T, Box<dyn std::any::Any + Send>> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => std::task::Poll::Ready(Err(panic)),
        }
    })
    .await
}
