//! The conformance kit on one server, on one that was restarted, and on a cluster.

use tower_idempotency::RedisStore;
use tower_idempotency::store::conformance::{
    Clock, a_full_store_keeps_what_it_has, the_room_of_what_ended_is_given_back,
};

use crate::cluster::Cluster;
use crate::cluster_support::conformance;
use crate::server::{AnyServer, Server};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_conforms() {
    let Some(server) = AnyServer::find("a_server_conforms") else {
        return;
    };
    let store = RedisStore::connect(server.url()).await.unwrap();
    conformance::passes(async || store.clone()).await;
}

#[cfg(feature = "zstd")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_of_compressed_records_conforms() {
    let Some(server) = AnyServer::find("a_server_of_compressed_records_conforms") else {
        return;
    };
    let store = RedisStore::connect(server.url()).await.unwrap();
    let store = store.compress_over(64);
    conformance::passes(async || store.clone()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_conforms_after_a_restart() {
    let Some(mut server) = Server::start("a_server_conforms_after_a_restart") else {
        return;
    };
    server.kill();
    server.run();
    let store = RedisStore::connect(&server.url()).await.unwrap();
    conformance::passes(async || store.clone()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_of_three_nodes_conforms() {
    let Some(cluster) = Cluster::start("a_cluster_of_three_nodes_conforms") else {
        return;
    };
    let store = cluster.store().await;
    conformance::passes(async || store.clone()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn room_is_given_back_and_a_full_server_keeps_what_it_has() {
    let test = "room_is_given_back_and_a_full_server_keeps_what_it_has";
    // An empty server takes about one of these megabytes.
    let settings = ["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"];
    let Some(server) = Server::start_with(test, &settings) else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let count = async |_: &RedisStore| {
        let mut look = server.look();
        redis::cmd("DBSIZE").query::<usize>(&mut look).unwrap()
    };
    the_room_of_what_ended_is_given_back(store.clone(), Clock::real(), count).await;
    a_full_store_keeps_what_it_has(store, Clock::real()).await;
}
