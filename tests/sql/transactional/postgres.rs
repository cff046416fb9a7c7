//! What only PostgreSQL has: isolation that is stricter, and commits that wait for a standby.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Executor;
use support::Failure;
use tower_idempotency::store::{Claim, Fingerprint, Owner, StoreErrorKind};
use tower_idempotency::{PostgresStore, RecordKey, Store, TransactionalErrorKind};

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
    let begin = async |byte: u8, is_durable: bool| {
        let claim = Claim::new(Owner::new(), Fingerprint::from_bytes([byte; 32]));
        let claim = claim.durable(is_durable);
        let key = RecordKey::from_bytes([byte; 32]);
        let begun = store.begin(&key, &claim, Duration::from_secs(60));
        tokio::time::timeout(Duration::from_secs(2), begun).await
    };
    assert!(begin(1, false).await.is_ok());
    assert!(begin(2, true).await.is_err());
    // The setting has not stayed behind on the connection.
    assert!(begin(3, false).await.is_ok());
    assert!(begin(4, true).await.is_err());
}
