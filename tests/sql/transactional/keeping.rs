//! What is kept, and what is handed back.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request};
use support::{Call, Fault};
use tower::{Layer, ServiceExt, service_fn};
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{
    DoNotKeep, IdempotencyLayer, NotKept, Outcome, RequestBody, SqliteStore, Transactional,
    Unprotected,
};

use super::app::{App, Run, created, request, respond};
use super::bank::{Bank, SqliteBank};

super::on_each!(
    effects_and_record_are_committed_together,
    a_request_that_is_not_protected_gets_its_response_back,
    a_request_whose_claim_failed_is_protected_after_all,
    a_claim_that_failed_keeps_nothing_where_a_record_is,
    a_response_that_is_not_to_be_kept_is_handed_back_and_frees_the_key,
    a_handler_without_a_transaction_has_its_response_kept_as_ever,
    a_handler_may_try_again_after_a_rollback,
);

/// Pays as it is meant to be done.
async fn pay<B: Bank>(run: Run<B>) -> super::app::Handled {
    let (tx, response) = match run.pay_and_keep().await {
        Ok(kept) => kept,
        Err(problem) => return Ok(problem),
    };
    B::commit(tx).await.unwrap();
    Ok(response)
}

async fn effects_and_record_are_committed_together<B: Bank>(bank: Arc<B>) {
    let app = App::new(&bank, pay);
    let first = app.send("key").await.unwrap();
    assert_eq!(first.status, 201);
    first.assert_run("{\"run\":1}");
    assert_eq!((bank.payments().await, bank.entries().await), (1, 1));

    let retry = app.send("key").await.unwrap();
    retry.assert_replay("{\"run\":1}");
    assert_eq!(retry.status, 201);
    assert_eq!((bank.payments().await, app.runs()), (1, 1));
    // The layer itself has written no record, and has waited for no disk.
    let calls = app.store.calls();
    let records = calls.iter().filter(|call| **call == Call::Complete);
    assert_eq!(records.count(), 1);
    assert_eq!(app.store.durable_claims(), 0);
}

async fn a_request_that_is_not_protected_gets_its_response_back<B: Bank>(bank: Arc<B>) {
    let app = App::new(&bank, |run: Run<B>| async move {
        assert!(!run.keep.is_protected());
        pay(run).await
    });
    let without_key = Request::post("/payments").body(Body::empty()).unwrap();
    let answer = app.send_request(without_key).await.unwrap();
    assert_eq!(answer.status, 201);
    assert_eq!(answer.outcome, Outcome::PassedThrough(Unprotected::NoKey));

    let mut without_caller = request("key", Body::empty());
    without_caller.headers_mut().remove("x-api-key");
    let answer = app.send_request(without_caller).await.unwrap();
    assert_eq!(answer.status, 201);
    assert_eq!(
        answer.outcome,
        Outcome::PassedThrough(Unprotected::NoCaller)
    );

    let mut of_another_method = request("key", Body::empty());
    *of_another_method.method_mut() = Method::GET;
    let answer = app.send_request(of_another_method).await.unwrap();
    assert_eq!(answer.status, 201);
    assert_eq!((bank.payments().await, bank.entries().await), (3, 0));
}

async fn a_request_whose_claim_failed_is_protected_after_all<B: Bank>(bank: Arc<B>) {
    let app = App::new(&bank, pay);
    for (key, fault) in [
        ("not taken", Fault::Fail(StoreErrorKind::Unavailable)),
        ("taken", Fault::FailAfter(StoreErrorKind::Unavailable)),
        ("refused", Fault::Fail(StoreErrorKind::Full)),
    ] {
        app.store.once(Call::Begin, fault);
        let runs = app.runs() + 1;
        let first = app.send(key).await.unwrap();
        first.assert_run(&format!("{{\"run\":{runs}}}"));
        let retry = app.send(key).await.unwrap();
        retry.assert_replay(&format!("{{\"run\":{runs}}}"));
        assert_eq!(app.runs(), runs, "{key}");
    }
    assert_eq!(bank.payments().await, 3);
}

async fn a_claim_that_failed_keeps_nothing_where_a_record_is<B: Bank>(bank: Arc<B>) {
    let app = App::new(&bank, pay);
    app.send("key").await.unwrap().assert_run("{\"run\":1}");
    app.store
        .once(Call::Begin, Fault::Fail(StoreErrorKind::Unavailable));
    // It runs, and rolls back.
    let retry = app.send("key").await.unwrap();
    assert_eq!(retry.status, 409);
    assert_eq!(retry.headers["retry-after"], "1");
    assert_eq!((bank.payments().await, app.runs()), (1, 2));
    app.send("key").await.unwrap().assert_replay("{\"run\":1}");
}

async fn a_response_that_is_not_to_be_kept_is_handed_back_and_frees_the_key<B: Bank>(bank: Arc<B>) {
    let app = App::new(&bank, |run: Run<B>| async move {
        let mut tx = run.pay().await;
        let mut response = match run.number {
            1 => respond(503, Body::from("{}")),
            2 => created(2),
            3 => respond(201, Body::from("a file")),
            _ => created(run.number),
        };
        match run.number {
            2 => drop(response.extensions_mut().insert(DoNotKeep)),
            3 => drop(
                response
                    .headers_mut()
                    .insert("content-type", "image/png".parse().unwrap()),
            ),
            _ => {}
        }
        let response = run.keep_in(&mut tx, response).await.unwrap();
        if run.number > 3 {
            B::commit(tx).await.unwrap();
        }
        Ok(response)
    });
    for (status, why) in [
        (503, NotKept::Rule),
        (201, NotKept::DoNotKeep),
        (201, NotKept::Rule),
    ] {
        let answer = app.send("key").await.unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(answer.outcome, Outcome::NotKept(why));
        assert_eq!((bank.payments().await, bank.entries().await), (0, 0));
    }
    app.send("key").await.unwrap().assert_run("{\"run\":4}");
    assert_eq!(bank.payments().await, 1);
}

async fn a_handler_without_a_transaction_has_its_response_kept_as_ever<B: Bank>(bank: Arc<B>) {
    let app = App::new(&bank, |run: Run<B>| async move { Ok(created(run.number)) });
    app.send("key").await.unwrap().assert_run("{\"run\":1}");
    app.send("key").await.unwrap().assert_replay("{\"run\":1}");
    let calls = [Call::Begin, Call::Complete, Call::Begin];
    assert_eq!(app.store.calls(), calls);
}

async fn a_handler_may_try_again_after_a_rollback<B: Bank>(bank: Arc<B>) {
    let app = App::new(&bank, |run: Run<B>| async move {
        let (tx, _) = run.pay_and_keep().await.unwrap();
        drop(tx);
        let mut tx = run.pay().await;
        let response = respond(201, Body::from("second"));
        let response = run.keep_in(&mut tx, response).await.unwrap();
        B::commit(tx).await.unwrap();
        Ok(response)
    });
    app.send("key").await.unwrap().assert_run("second");
    app.send("key").await.unwrap().assert_replay("second");
    assert_eq!((bank.payments().await, app.runs()), (1, 1));
}

#[tokio::test]
async fn the_transaction_of_an_outer_layer_holds_inside_an_inner_one() {
    let bank = SqliteBank::open("").await.unwrap();
    let bank = Arc::new(bank);
    let layer = IdempotencyLayer::new(Arc::new(bank.store().clone())).transactional();
    let handler = Arc::clone(&bank);
    let service = service_fn(move |request: Request<_>| {
        let bank = Arc::clone(&handler);
        let extensions: &http::Extensions = request.extensions();
        let keep = extensions.get::<Transactional<Arc<SqliteStore>>>();
        let keep = keep.cloned().expect("in each request");
        drop::<Request<RequestBody<RequestBody<Body>>>>(request);
        async move {
            assert!(keep.is_protected());
            let mut tx = bank.begin().await.unwrap();
            SqliteBank::pay(&mut tx, "key").await.unwrap();
            let response = keep.in_transaction(&mut tx, created(1)).await.unwrap();
            SqliteBank::commit(tx).await.unwrap();
            Ok::<_, Infallible>(response)
        }
    });
    let service = layer.layer(layer.layer(service));
    for outcome in [Outcome::Kept, Outcome::Replayed] {
        let sent = service.clone().oneshot(request("key", Body::empty())).await;
        assert_eq!(Outcome::of(sent.unwrap().extensions()), outcome);
    }
    assert_eq!((bank.payments().await, bank.entries().await), (1, 1));
}
