//! A server whose clock is set.

use tower_idempotency::PostgresStore;
use tower_idempotency::store::DynStore;

use super::server::Server;
use crate::cluster_support::clock_steps;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_clock_that_is_set_ends_claims_and_records_early_or_late_and_alters_none() {
    let test = "a_clock_that_is_set_ends_claims_and_records_early_or_late";
    let Some((server, clock)) = Server::with_clock(test) else {
        return;
    };
    let store = PostgresStore::connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    println!("PostgreSQL:");
    let is_back = clock_steps::are_as_documented(DynStore::new(store.clone()), &clock).await;
    // Nobody had removed it, and its end was to come again.
    assert!(is_back, "the record that had ended");
    store.check().await.unwrap();
}
