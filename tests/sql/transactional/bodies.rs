//! The bodies of responses and of requests.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, StatusCode};
use support::{Frames, Piece};
use tower_idempotency::{Outcome, TransactionalErrorKind};

use super::app::{App, Run, request, respond};
use super::bank::Bank;

super::on_each!(
    a_body_within_the_limit_is_kept_and_one_over_it_is_sent_whole,
    trailers_go_along,
    a_body_that_breaks_rolls_back,
    an_upload_that_breaks_rolls_back,
    a_rule_that_panics_rolls_back,
);

const LIMIT: usize = 10;

type MakeBody = fn() -> Body;

/// A handler whose response has a body like this.
fn answering<B: Bank>(bank: &Arc<B>, body: impl Fn() -> Body + Send + Sync + 'static) -> App<B> {
    let app = App::new(bank, move |run: Run<B>| {
        let body = body();
        async move {
            let mut tx = run.pay().await;
            match run.try_to_keep_in(&mut tx, respond(201, body)).await {
                Ok(response) => {
                    B::commit(tx).await.unwrap();
                    Ok(response)
                }
                Err(error) => {
                    assert_eq!(error.kind(), TransactionalErrorKind::BrokenBody);
                    Ok(error.into())
                }
            }
        }
    });
    app.with(|layer| layer.max_response_bytes(LIMIT))
}

async fn a_body_within_the_limit_is_kept_and_one_over_it_is_sent_whole<B: Bank>(bank: Arc<B>) {
    let cases: [(&str, MakeBody, &str, bool); 8] = [
        ("empty", Body::empty, "", true),
        ("exact", || Body::from("0123456789"), "0123456789", true),
        (
            "unknown",
            || Body::new(Frames::unknown(["01234", "56789"])),
            "0123456789",
            true,
        ),
        (
            "slow",
            || Body::new(Frames::unknown([Piece::Pend, "0123".into(), Piece::Pend])),
            "0123",
            true,
        ),
        ("over", || Body::from("0123456789a"), "0123456789a", false),
        (
            "over, unknown",
            || Body::new(Frames::unknown(["01234", "56789", "a", "b"])),
            "0123456789ab",
            false,
        ),
        (
            "over, slow",
            || {
                Body::new(Frames::unknown([
                    "0123456789a".into(),
                    Piece::Pend,
                    "b".into(),
                    Piece::Pend,
                ]))
            },
            "0123456789ab",
            false,
        ),
        (
            "longer than it says",
            || Body::new(Frames::unknown(["01234", "5"]).that_promises(Some(2))),
            "012345",
            true,
        ),
    ];
    for (number, (name, body, whole, is_kept)) in (1..).zip(cases) {
        let app = answering(&bank, body);
        let first = app.send(name).await.unwrap();
        assert_eq!(first.status, 201, "{name}: {first:?}");
        assert_eq!(first.body, whole, "{name}");
        let retry = app.send(name).await.unwrap();
        if is_kept {
            assert_eq!(first.outcome, Outcome::Kept, "{name}");
            retry.assert_replay(whole);
        } else {
            assert_eq!(first.outcome, Outcome::KeptWithoutBody, "{name}");
            retry.assert_replay("");
            assert!(retry.is_without_body(), "{name}");
        }
        assert_eq!(bank.payments().await, number, "{name}");
    }
}

async fn trailers_go_along<B: Bank>(bank: Arc<B>) {
    let app = answering(&bank, || {
        let trailers = HeaderMap::from_iter([("x-end".parse().unwrap(), "yes".parse().unwrap())]);
        Body::new(Frames::unknown(["0123".into(), Piece::Trailers(trailers)]))
    });
    let first = app.send("key").await.unwrap();
    first.assert_run("0123");
    assert_eq!(first.trailers.unwrap()["x-end"], "yes");
    app.send("key").await.unwrap().assert_replay("0123");
    assert_eq!(bank.payments().await, 1);
}

async fn a_body_that_breaks_rolls_back<B: Bank>(bank: Arc<B>) {
    let cases: [(&str, MakeBody); 3] = [
        ("error", || {
            Body::new(Frames::unknown(["01".into(), Piece::Break]))
        }),
        ("error, exact", || {
            Body::new(Frames::exact(["01".into(), Piece::Break]))
        }),
        ("short", || {
            Body::new(Frames::unknown(["01"]).that_promises(Some(5)))
        }),
    ];
    for (name, body) in cases {
        let app = answering(&bank, body);
        let answer = app.send(name).await.unwrap();
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{name}");
        assert_eq!(
            (bank.payments().await, bank.entries().await),
            (0, 0),
            "{name}"
        );
    }
}

async fn an_upload_that_breaks_rolls_back<B: Bank>(bank: Arc<B>) {
    // Read before the response is made, or with it.
    for echoes in [false, true] {
        let app = App::new(&bank, move |run: Run<B>| async move {
            let upload = run.body.lock().unwrap().take().unwrap();
            let body = if echoes {
                Body::new(upload)
            } else {
                Body::from(support::read(upload).await.data)
            };
            let mut tx = run.pay().await;
            Ok(
                match run.try_to_keep_in(&mut tx, respond(201, body)).await {
                    Ok(response) => {
                        B::commit(tx).await.unwrap();
                        response
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), TransactionalErrorKind::BrokenUpload);
                        error.into()
                    }
                },
            )
        });
        let key = format!("{echoes}");
        for upload in [
            Frames::unknown(["01".into(), Piece::Break]),
            // A tear that looks like an end.
            Frames::unknown(["01"]).that_promises(Some(5)),
        ] {
            let answer = app.send_request(request(&key, Body::new(upload))).await;
            assert_eq!(answer.unwrap().status, 400, "{key}");
            let left = (bank.payments().await, bank.entries().await);
            let whole = usize::from(echoes) as i64;
            assert_eq!(left, (whole, whole), "{key}");
        }
        let whole = request(&key, Body::from("01234"));
        let answer = app.send_request(whole).await.unwrap();
        answer.assert_run("01234");
    }
    assert_eq!(bank.payments().await, 2);
}

async fn a_rule_that_panics_rolls_back<B: Bank>(bank: Arc<B>) {
    let app = App::new(&bank, |run: Run<B>| async move {
        let mut tx = run.pay().await;
        let kept = run
            .try_to_keep_in(&mut tx, respond(201, Body::empty()))
            .await;
        let error = kept.unwrap_err();
        assert_eq!(error.kind(), TransactionalErrorKind::RulePanicked);
        Ok(error.into())
    });
    let app = app.with(|layer| layer.keep_if(|_| panic!("the rule's own")));
    assert_eq!(app.send("key").await.unwrap().status, 500);
    assert_eq!(bank.payments().await, 0);
}
