//! The whole stack: clients that leave, handlers that panic, and what their retries get.

use std::sync::atomic::Ordering;

use crate::client::{hang_up, post, spawn};
use crate::stack::{CONCURRENT, LIMIT};
use crate::whole::Whole;

#[tokio::test(start_paused = true)]
async fn a_timeout_ends_the_wait_and_the_retry_gets_the_answer() {
    let whole = Whole::new();
    let first = whole.send(post("/slow", "k")).await;
    assert_eq!(first.seen(), (504, false));
    assert_eq!(whole.detached.count(), 1);
    let meanwhile = whole.send(post("/slow", "k")).await;
    assert_eq!(meanwhile.seen(), (409, false));
    assert!(!meanwhile.header("retry-after").is_empty());

    whole.api.gate.add_permits(1);
    whole.finish().await;
    let again = whole.send(post("/slow", "k")).await;
    assert_eq!((again.seen(), again.text()), ((201, true), "run 1"));
    assert_eq!(whole.api.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn clients_that_hang_up_do_not_slip_past_the_concurrency_limit() {
    let whole = Whole::new();
    let full = u32::try_from(CONCURRENT).unwrap();
    for round in 0..2 {
        let clients: Vec<_> = (0..CONCURRENT)
            .map(|client| spawn(&whole.app, post("/slow", &format!("{round}-{client}"))))
            .collect();
        if round == 0 {
            whole.api.reached(full).await;
            // The limit is full, and a retry has its answer at once all the same.
            let refused = tokio::time::timeout(LIMIT / 2, whole.send(post("/slow", "0-0")));
            assert_eq!(refused.await.unwrap().seen(), (409, false));
        } else {
            // Those of this round wait behind the first ones.
            tokio::time::sleep(LIMIT / 2).await;
        }
        for client in clients {
            hang_up(client).await;
        }
    }
    assert_eq!(whole.api.runs(), CONCURRENT);
    whole.api.gate.add_permits(2 * CONCURRENT);
    whole.finish().await;
    assert_eq!(whole.api.runs(), 2 * CONCURRENT);
    assert_eq!(whole.api.most_running.load(Ordering::SeqCst), CONCURRENT);
    for key in ["0-0", "1-63"] {
        assert_eq!(whole.send(post("/slow", key)).await.seen(), (201, true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_local_set_inside_outlives_the_client() {
    let whole = Whole::new();
    let first = spawn(&whole.app, post("/tenant", "k"));
    whole.api.reached(1).await;
    hang_up(first).await;
    whole.api.gate.add_permits(1);
    whole.finish().await;
    let again = whole.send(post("/tenant", "k")).await;
    assert_eq!(again.seen(), (201, true));
    assert_eq!(again.text(), "run 1 for a tenant");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_answered_with_500_and_frees_the_key() {
    let whole = Whole::new();
    for (seen, runs) in [((500, false), 1), ((201, false), 2), ((201, true), 2)] {
        assert_eq!(whole.send(post("/panic", "k")).await.seen(), seen);
        assert_eq!(whole.api.runs(), runs);
    }
}
