//! Leases that are lost, and that are not renewed while the transaction has the row.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{Call, Gate};
use tower_idempotency::TransactionalErrorKind;

use super::app::{App, Run, created};
use super::bank::Bank;

super::on_each!(
    effects_of_a_handler_whose_key_was_taken_over_are_rolled_back,
    effects_are_committed_after_the_lease_if_nobody_has_taken_over,
    a_client_that_leaves_does_not_stop_the_transaction,
    a_lease_is_not_renewed_while_a_transaction_has_the_record,
);

async fn effects_of_a_handler_whose_key_was_taken_over_are_rolled_back<B: Bank>(bank: Arc<B>) {
    // The other one has finished, or still runs.
    for finishes in [true, false] {
        let gate = Gate::new();
        let gate_of_other = gate.clone();
        let other = App::new(&bank, move |run: Run<B>| {
            let gate = gate_of_other.clone();
            async move {
                if !finishes {
                    gate.pass().await;
                }
                let (tx, response) = run.pay_and_keep().await.unwrap();
                B::commit(tx).await.unwrap();
                Ok(response)
            }
        });
        let (other, key) = (Arc::new(other), format!("{finishes}"));
        let before = bank.payments().await;
        let second = Arc::new(Mutex::new(None));
        let (taking, seconds) = (Arc::clone(&other), Arc::clone(&second));
        let gate_of_first = gate.clone();
        let app = App::new(&bank, move |run: Run<B>| {
            let (other, second) = (Arc::clone(&taking), Arc::clone(&seconds));
            let gate = gate_of_first.clone();
            async move {
                run.bank.expire().await;
                let key = run.key.clone();
                let taken = tokio::spawn(async move { other.send(&key).await.unwrap() });
                if finishes {
                    taken.await.unwrap().assert_run("{\"run\":1}");
                } else {
                    gate.reached().await;
                    *second.lock().unwrap() = Some(taken);
                }
                let mut tx = run.pay().await;
                let kept = run.try_to_keep_in(&mut tx, created(7)).await;
                let error = kept.unwrap_err();
                assert_eq!(error.kind(), TransactionalErrorKind::LeaseLost);
                Ok(error.into())
            }
        });
        let first = app.send(&key).await.unwrap();
        assert_eq!(first.status, 409);
        assert_eq!(first.headers["retry-after"], "1");
        let second = second.lock().unwrap().take();
        if let Some(second) = second {
            gate.open();
            second.await.unwrap().assert_run("{\"run\":1}");
        }
        app.send(&key).await.unwrap().assert_replay("{\"run\":1}");
        assert_eq!(bank.payments().await, before + 1);
    }
}

async fn effects_are_committed_after_the_lease_if_nobody_has_taken_over<B: Bank>(bank: Arc<B>) {
    let app = App::new(&bank, |run: Run<B>| async move {
        run.bank.expire().await;
        let (tx, response) = run.pay_and_keep().await.unwrap();
        B::commit(tx).await.unwrap();
        Ok(response)
    });
    app.send("key").await.unwrap().assert_run("{\"run\":1}");
    app.send("key").await.unwrap().assert_replay("{\"run\":1}");
    assert_eq!(bank.payments().await, 1);
}

async fn a_client_that_leaves_does_not_stop_the_transaction<B: Bank>(bank: Arc<B>) {
    let gate = Gate::new();
    let within = gate.clone();
    let app = App::new(&bank, move |run: Run<B>| {
        let gate = within.clone();
        async move {
            let (tx, response) = run.pay_and_keep().await.unwrap();
            gate.pass().await;
            B::commit(tx).await.unwrap();
            Ok(response)
        }
    });
    let app = Arc::new(app);
    let sending = Arc::clone(&app);
    let client = tokio::spawn(async move { sending.send("key").await });
    gate.reached().await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    gate.open();
    app.layer
        .detached()
        .wait(Duration::from_secs(20))
        .await
        .unwrap();
    app.send("key").await.unwrap().assert_replay("{\"run\":1}");
    assert_eq!((bank.payments().await, app.runs()), (1, 1));
}

async fn a_lease_is_not_renewed_while_a_transaction_has_the_record<B: Bank>(bank: Arc<B>) {
    let lease = Duration::from_millis(600);
    let app = App::new(&bank, move |run: Run<B>| async move {
        let renewals = || {
            let calls = run.store.calls();
            calls.iter().filter(|call| **call == Call::Renew).count()
        };
        while renewals() == 0 {
            tokio::time::sleep(lease / 60).await;
        }
        let (tx, response) = run.pay_and_keep().await.unwrap();
        let before = renewals();
        // Longer than the next one takes to come.
        tokio::time::sleep(lease).await;
        assert_eq!(renewals(), before);
        B::commit(tx).await.unwrap();
        Ok(response)
    });
    let app = app.with(|layer| layer.lease(lease));
    app.send("key").await.unwrap().assert_run("{\"run\":1}");
    app.send("key").await.unwrap().assert_replay("{\"run\":1}");
    assert_eq!(bank.payments().await, 1);
}
