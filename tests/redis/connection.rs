//! The store's own connection, and one that the application has.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use support::entry::{MINUTE, claim};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use tower_idempotency::store::{Begin, Ownership, RecordKey, Store, StoreErrorKind};
use tower_idempotency::{RedisStore, StoreError};

use crate::cluster_support::process;
use crate::server::{AnyServer, Server};

async fn begin(store: &RedisStore, key: u8) -> Result<Begin, StoreErrorKind> {
    let key = RecordKey::from_bytes([key; 32]);
    let found = store.begin(&key, &claim(), MINUTE).await;
    found.map_err(|error: StoreError| error.kind())
}

/// Asks until the store answers, as the layer's requests do.
async fn answered(store: &RedisStore, key: u8) -> Begin {
    let start = Instant::now();
    loop {
        if let Ok(found) = begin(store, key).await {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "no connection");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn scripts_are_sent_again_after_a_restart() {
    let settings = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut server) = Server::start_with("scripts_are_sent_again_after_a_restart", &settings)
    else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let (key, claim) = (RecordKey::from_bytes([1; 32]), claim());
    let found = store.begin(&key, &claim, MINUTE).await.unwrap();
    assert!(matches!(found, Begin::Started));
    assert_eq!(
        store.renew(&key, claim.owner(), MINUTE).await.unwrap(),
        Ownership::Held
    );
    server.kill();
    server.run();
    answered(&store, 2).await;
    // The claim was on disk, and the script by which it is renewed was not.
    assert_eq!(
        store.renew(&key, claim.owner(), MINUTE).await.unwrap(),
        Ownership::Held
    );
    assert_eq!(
        store.release(&key, claim.owner()).await.unwrap(),
        Ownership::Held
    );
}

#[tokio::test]
async fn a_connection_that_breaks_while_nobody_asks_is_there_for_the_next_request() {
    let Some(mut server) = Server::start("a_connection_that_breaks_while_nobody_asks") else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    server.kill();
    server.run();
    sleep(Duration::from_secs(1)).await;
    assert!(matches!(begin(&store, 1).await, Ok(Begin::Started)));
}

/// Nothing answers, not even a refusal, as when the server's machine is gone: the first requests
/// wait as long as the layer lets them, those after a second not at all.
#[tokio::test]
async fn a_connection_that_hangs_is_given_up_and_made_anew() {
    let Some(server) = Server::start("a_connection_that_hangs_is_given_up") else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    answered(&store, 1).await;
    server.signal("STOP");
    let start = Instant::now();
    loop {
        // As long as the layer's `store_timeout` is by default.
        match tokio::time::timeout(Duration::from_millis(500), begin(&store, 2)).await {
            Ok(result) => {
                assert_eq!(result.map(drop), Err(StoreErrorKind::Unavailable));
                break;
            }
            Err(_) => assert!(start.elapsed() < Duration::from_secs(30), "not given up"),
        }
    }
    server.signal("CONT");
    answered(&store, 3).await;
}

#[tokio::test]
async fn a_lazy_store_starts_without_its_server_and_finds_it_later() {
    let [port] = process::free_ports();
    let url = format!("redis://127.0.0.1:{port}/");
    assert!(RedisStore::connect(&url).await.is_err());
    assert!(RedisStore::connect_lazy("no address").is_err());
    let store = RedisStore::connect_lazy(&url).unwrap();
    assert_eq!(
        begin(&store, 1).await.map(drop),
        Err(StoreErrorKind::Unavailable)
    );
    let test = "a_lazy_store_starts_without_its_server_and_finds_it_later";
    let Some(_server) = Server::start_at(test, port, &[]) else {
        return;
    };
    assert!(matches!(answered(&store, 1).await, Begin::Started));
}

/// The kernel takes the connection, and nobody ever says a word on it.
#[tokio::test]
async fn no_request_waits_for_a_reconnect() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("redis://{}/", silent.local_addr().unwrap());
    let store = RedisStore::connect_lazy(&url).unwrap();
    let (_held, _) = silent.accept().await.unwrap();
    let asked = tokio_test::task::spawn(begin(&store, 1)).poll();
    assert!(matches!(
        asked,
        std::task::Poll::Ready(Err(StoreErrorKind::Unavailable))
    ));
}

#[tokio::test]
async fn a_connection_manager_of_the_application_serves_as_well() {
    let Some(server) = AnyServer::find("a_connection_manager_of_the_application") else {
        return;
    };
    let client = redis::Client::open(server.url()).unwrap();
    let config = ConnectionManagerConfig::new().set_number_of_retries(0);
    let manager = ConnectionManager::new_with_config(client, config).await;
    let store = RedisStore::new(manager.unwrap());
    assert!(matches!(begin(&store, 1).await, Ok(Begin::Started)));
    assert!(matches!(begin(&store, 1).await, Ok(Begin::InProgress(_))));
}
