//! A server or a connection that fails.

use std::sync::{Arc, Mutex};

use tower_idempotency::RedisStore;
use tower_idempotency::store::{DynStore, StoreErrorKind};

use crate::cluster_support::fault::Fault;
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

/// As an operator has it who wants no record lost: with each write, the server waits for its disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_killed_and_loads_its_log_again_has_lost_nothing() {
    let settings = [
        ["--appendonly", "yes"],
        ["--appendfsync", "always"],
        // It takes its time to load, and looks at its clients meanwhile.
        ["--key-load-delay", "500"],
        ["--loading-process-events-interval-bytes", "1024"],
    ];
    let test = "a_server_that_is_killed_and_loads_its_log_again_has_lost_nothing";
    let Some(server) = Server::start_with(test, settings.as_flattened()) else {
        return;
    };
    let store = DynStore::new(RedisStore::connect(&server.url()).await.unwrap());
    let fault = Fault {
        what: "killed, with appendfsync always",
        kinds: &[StoreErrorKind::Unavailable, StoreErrorKind::Timeout],
        reads: false,
        every: outage::EVERY,
    };
    let server = Mutex::new(server);
    let (hurt, heal) = (
        || server.lock().unwrap().kill(),
        || server.lock().unwrap().run(),
    );
    fault.hurts_no_request(&store, hurt, heal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_password_that_is_changed_hurts_no_request_until_it_is_right_again() {
    let test = "a_password_that_is_changed_hurts_no_request_until_it_is_right_again";
    let Some(server) = Server::start(test) else {
        return;
    };
    server.ask::<()>("ACL SETUSER store on >secret ~* +@all");
    let url = format!("redis://store:secret@{}/", server.address());
    let store = DynStore::new(RedisStore::connect(&url).await.unwrap());
    let fault = Fault {
        what: "WRONGPASS",
        // Until the next connection has been refused, there is just none.
        kinds: &[StoreErrorKind::Misconfigured, StoreErrorKind::Unavailable],
        reads: false,
        every: outage::EVERY,
    };
    let hurt = || {
        server.ask::<()>("ACL SETUSER store resetpass >other");
        server.ask::<()>("CLIENT KILL USER store");
    };
    let heal = || server.ask("ACL SETUSER store resetpass >secret");
    fault.hurts_no_request(&store, hurt, heal).await;
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
