//! A server or a connection that fails.

use tower_idempotency::PostgresStore;
use tower_idempotency::store::DynStore;

use super::server::Server;
use crate::cluster_support::outage;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_outage_hurts_no_request_and_protection_is_back_within_a_second() {
    let Some(mut server) = Server::start("an_outage_hurts_no_request") else {
        return;
    };
    let store = PostgresStore::connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    outage::hurts_no_request(DynStore::new(store), &mut server).await;
}
