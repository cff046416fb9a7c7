//! The conformance kit in one test, for a store whose server may not be there.

use tokio::task::JoinSet;
use tower_idempotency::Store;
use tower_idempotency::store::conformance::{Case, Clock, Database, cases, transactional_cases};

/// Runs every case on a store of its own, eight at a time, and names those that fail.
///
/// Needs a runtime of several threads, since some cases race.
pub async fn passes<S: Store>(open: impl AsyncFnMut() -> S) {
    all_pass(cases(), open).await;
}

/// The same for the cases of a store that takes part in transactions.
pub async fn passes_in_transactions<D: Database>(open: impl AsyncFnMut() -> D) {
    all_pass(transactional_cases(), open).await;
}

async fn all_pass<T: Send + 'static>(cases: Vec<Case<T>>, mut open: impl AsyncFnMut() -> T) {
    let mut running = JoinSet::new();
    let mut failed = Vec::new();
    let count = cases.len();
    for case in cases {
        if running.len() == 8 {
            failed.extend(running.join_next().await.unwrap().unwrap());
        }
        let store = open().await;
        running.spawn(async move {
            // In a task of its own, so that the other cases are reported as well.
            let run = tokio::spawn(case.run(store, Clock::real())).await;
            run.is_err().then(|| case.name())
        });
    }
    while let Some(result) = running.join_next().await {
        failed.extend(result.unwrap());
    }
    assert!(
        failed.is_empty(),
        "of {count} cases, these failed: {failed:?}"
    );
    println!("{count} cases of the conformance kit passed");
}
