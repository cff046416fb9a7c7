//! A server or a connection that fails.

use std::sync::Arc;

use tower_idempotency::RedisStore;
use tower_idempotency::store::DynStore;

use crate::cluster_support::proxy::Proxy;
use crate::cluster_support::{lost_reply, outage};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_outage_hurts_no_request_and_protection_is_back_within_a_second() {
    let Some(mut server) = Server::start("an_outage_hurts_no_request") else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    outage::hurts_no_request(DynStore::new(store), &mut server).await;
}

#[tokio::test]
async fn a_lost_reply_leaves_a_kept_record_or_a_free_key() {
    let Some(server) = Server::start("a_lost_reply_leaves_a_kept_record_or_a_free_key") else {
        return;
    };
    let proxy = Arc::new(Proxy::before(server.address()).await);
    let url = format!("redis://{}/", proxy.address());
    let behind = DynStore::new(RedisStore::connect(&url).await.unwrap());
    let direct = DynStore::new(RedisStore::connect(&server.url()).await.unwrap());
    lost_reply::of_a_claim(behind.clone(), Arc::clone(&proxy), direct.clone()).await;
    lost_reply::of_a_completion(behind, proxy, direct).await;
}
