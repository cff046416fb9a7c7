//! What only PostgreSQL has: isolation that is stricter, and commits that wait for a standby.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Executor;
use support::{Failure, Gate, Log, soon};
use tokio::task::JoinSet;
use tower_idempotency::store::{
    Begin, Claim, Fingerprint, Owner, Ownership, Record, StoreErrorKind, TransactionalStore,
};
use tower_idempotency::{
    NotKept, Outcome, PostgresStore, RecordKey, Store, TransactionalErrorKind,
};

use super::app::{App, Run, created};
use super::bank::{Bank, PostgresBank};
use crate::postgres::server::Server;

#[tokio::test]
async fn a_transaction_that_cant_see_what_is_committed_is_rolled_back() {
    super::run::<PostgresBank, _>(
        "a_transaction_that_cant_see_what_is_committed_is_rolled_back",
        stricter_isolation,
    )
    .await;
}

async fn stricter_isolation(bank: Arc<PostgresBank>) {
    let mut paid = 0;
    for (isolation, is_taken_over) in [
        ("REPEATABLE READ", false),
        ("SERIALIZABLE", false),
        ("REPEATABLE READ", true),
        ("SERIALIZABLE", true),
    ] {
        let other = Arc::new(App::new(&bank, |run: Run<PostgresBank>| async move {
            let (tx, response) = run.pay_and_keep().await.unwrap();
            PostgresBank::commit(tx).await.unwrap();
            Ok(response)
        }));
        let taking_over = Arc::clone(&other);
        let app = App::new(&bank, move |run: Run<PostgresBank>| {
            let other = Arc::clone(&taking_over);
            async move {
                let mut tx = run.bank.begin().await.unwrap();
                // Takes the transaction's snapshot, too.
                let set = format!("SET TRANSACTION ISOLATION LEVEL {isolation}; SELECT 1");
                PostgresBank::run(&mut tx, &set).await.unwrap();
                if is_taken_over {
                    run.bank.expire().await;
                    let taken = other.send(&run.key).await.unwrap();
                    taken.assert_run("{\"run\":1}");
                } else {
                    let renew = "WITH renewed AS (
                        UPDATE idempotency SET expires = now() + interval '1 minute' RETURNING true
                    ) SELECT count(*) FROM renewed";
                    assert!(run.bank.count(renew).await >= 1);
                }
                PostgresBank::pay(&mut tx, &run.key).await.unwrap();
                let kept = run.try_to_keep_in(&mut tx, created(1)).await;
                let error = kept.unwrap_err();
                let kind = TransactionalErrorKind::Store(StoreErrorKind::Unavailable);
                assert_eq!(error.kind(), kind);
                // Even a handler that goes on can't commit.
                let _ = PostgresBank::commit(tx).await;
                Ok(error.into())
            }
        });
        let key = format!("{isolation} {is_taken_over}");
        assert_eq!(app.send(&key).await.unwrap().status, 503, "{key}");
        if is_taken_over {
            app.send(&key).await.unwrap().assert_replay("{\"run\":1}");
        } else {
            other.send(&key).await.unwrap().assert_run("{\"run\":1}");
        }
        paid += 1;
        assert_eq!(bank.payments().await, paid, "{key}");
        bank.expire().await;
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_before_its_commit_is_answered_with_the_failure() {
    super::run::<PostgresBank, _>(
        "a_connection_that_is_cut_before_its_commit_is_answered_with_the_failure",
        cut_before_the_commit,
    )
    .await;
}

async fn cut_before_the_commit(bank: Arc<PostgresBank>) {
    let app = App::new(&bank, |run: Run<PostgresBank>| async move {
        let (mut tx, response) = run.pay_and_keep().await.unwrap();
        if run.number == 1 {
            let own = sqlx::query_scalar::<_, i32>("SELECT pg_backend_pid()");
            let pid = own.fetch_one(&mut *tx).await.unwrap();
            let cut = format!("SELECT count(*) FROM (SELECT pg_terminate_backend({pid})) AS cut");
            run.bank.count(&cut).await;
        }
        match PostgresBank::commit(tx).await {
            Ok(()) => Ok(response),
            Err(_) => Err(Failure("the commit failed")),
        }
    });
    assert_eq!(app.send("key").await.unwrap_err().0, "the commit failed");
    assert_eq!(bank.payments().await, 0);
    app.send("key").await.unwrap().assert_run("{\"run\":2}");
    assert_eq!(bank.payments().await, 1);
}

#[tokio::test]
async fn a_claim_that_is_not_durable_waits_for_no_standby() {
    let Some(server) = Server::start("a_claim_that_is_not_durable_waits_for_no_standby") else {
        return;
    };
    let store = PostgresStore::connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    let pool = sqlx::PgPool::connect(&server.url()).await.unwrap();
    for sql in [
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
        "SELECT pg_reload_conf()",
    ] {
        pool.execute(sql).await.unwrap();
    }
    let is_set = async || {
        let set = sqlx::query_scalar::<_, String>("SHOW synchronous_standby_names");
        set.fetch_one(&pool).await.unwrap() == "nobody"
    };
    while !is_set().await {
        tokio::task::yield_now().await;
    }
    let begin = |byte: u8, is_durable: bool| {
        let store = store.clone();
        tokio::spawn(async move {
            let claim = Claim::new(Owner::new(), Fingerprint::from_bytes([byte; 32]));
            let claim = claim.durable(is_durable);
            let key = RecordKey::from_bytes([byte; 32]);
            store.begin(&key, &claim, Duration::from_secs(60)).await
        })
    };
    let waiting = async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        let count = sqlx::query_scalar::<_, i64>(waiting);
        count.fetch_one(&pool).await.unwrap()
    };
    // On whichever connection, and after whatever it did before.
    for round in 0..4 {
        soon(begin(round, false)).await.unwrap().unwrap();
        let durable = begin(round + 100, true);
        soon(async {
            while waiting().await <= i64::from(round) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(!durable.is_finished());
    }
}

#[tokio::test]
async fn transactions_that_hang_take_no_connection_from_other_keys() {
    super::run::<PostgresBank, _>(
        "transactions_that_hang_take_no_connection_from_other_keys",
        hanging,
    )
    .await;
}

async fn hanging(bank: Arc<PostgresBank>) {
    let gate = Gate::new();
    let within = gate.clone();
    let app = App::new(&bank, move |run: Run<PostgresBank>| {
        let gate = within.clone();
        async move {
            let (tx, response) = run.pay_and_keep().await.unwrap();
            if run.key.starts_with("hangs") {
                tokio::spawn(async move {
                    gate.pass().await;
                    PostgresBank::commit(tx).await.unwrap();
                });
                return Err(Failure(
                    "the connection is gone, and the server does not know",
                ));
            }
            PostgresBank::commit(tx).await.unwrap();
            Ok(response)
        }
    });
    // More than the store has connections, fewer than the application's pool.
    const HANGING: usize = 8;
    let app = Arc::new(app.with(|layer| {
        layer
            .store_timeout(Duration::from_secs(2))
            .lease(Duration::from_secs(20))
    }));
    let mut firsts = JoinSet::new();
    for n in 0..HANGING {
        let app = Arc::clone(&app);
        firsts.spawn(async move { app.send(&format!("hangs {n}")).await.unwrap() });
    }
    for first in firsts.join_all().await {
        assert_eq!(first.status, 503, "{first:?}");
    }
    // Their releases are tried again meanwhile, and their clients come back.
    let mut retries = JoinSet::new();
    for n in 0..HANGING {
        let app = Arc::clone(&app);
        retries.spawn(async move { app.send(&format!("hangs {n}")).await.unwrap() });
    }
    for n in 0..50 {
        let other = app.send(&format!("other {n}")).await.unwrap();
        assert_eq!(other.outcome, Outcome::Kept, "{n}: {other:?}");
    }
    for retry in retries.join_all().await {
        assert_eq!(retry.status, 409, "{retry:?}");
    }
    for _ in 0..HANGING {
        gate.open();
    }
    for n in 0..HANGING {
        let key = format!("hangs {n}");
        soon(async {
            while app.send(&key).await.unwrap().outcome != Outcome::Replayed {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    assert_eq!(bank.payments().await, HANGING as i64 + 50);
}

#[tokio::test]
async fn a_commit_that_rolls_back_without_a_word_is_no_success() {
    super::run::<PostgresBank, _>(
        "a_commit_that_rolls_back_without_a_word_is_no_success",
        rolls_back,
    )
    .await;
}

async fn rolls_back(bank: Arc<PostgresBank>) {
    let log = Log::begin();
    let app = App::new(&bank, |run: Run<PostgresBank>| async move {
        let (mut tx, response) = run.pay_and_keep().await.unwrap();
        if run.number == 1 {
            // Its error is ignored, such as that of an audit log.
            let _ = PostgresBank::run(&mut tx, "SELECT 1 / 0").await;
        }
        // PostgreSQL rolls back, and the driver says that all is well.
        PostgresBank::commit(tx).await.unwrap();
        Ok(response)
    });
    let first = app.send("key").await.unwrap();
    assert_eq!(first.status, 500);
    assert_eq!(first.outcome, Outcome::NotKept(NotKept::NotCommitted));
    assert!(log.take().contains("did not commit"));
    assert_eq!(bank.payments().await, 0);
    app.send("key").await.unwrap().assert_run("{\"run\":2}");
    assert_eq!(bank.payments().await, 1);
}

#[tokio::test]
async fn a_record_is_kept_in_a_transaction_by_the_simple_protocol_too() {
    super::run::<PostgresBank, _>(
        "a_record_is_kept_in_a_transaction_by_the_simple_protocol_too",
        simple_protocol,
    )
    .await;
}

async fn simple_protocol(bank: Arc<PostgresBank>) {
    let store = bank.store().clone().simple_protocol(true);
    let (key, owner) = (RecordKey::from_bytes([7; 32]), Owner::new());
    let headers: [(&http::HeaderName, &http::HeaderValue); 0] = [];
    let fingerprint = Fingerprint::from_bytes([7; 32]);
    let record = Record::new(
        fingerprint,
        http::StatusCode::CREATED,
        headers,
        Some(b"'\\'"),
    );
    let mut tx = bank.begin().await.unwrap();
    let ttl = Duration::from_secs(60);
    let kept = store.complete_in(&mut tx, &key, owner, &record, ttl).await;
    assert_eq!(kept.unwrap(), Ownership::Held);
    PostgresBank::commit(tx).await.unwrap();
    let claim = Claim::new(Owner::new(), fingerprint);
    match store.begin(&key, &claim, ttl).await.unwrap() {
        Begin::Completed(found) => assert_eq!(found.body(), record.body()),
        found => panic!("{found:?}"),
    }
}
