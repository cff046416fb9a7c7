//! A store that outlives the runtime on which it has connected, or that is used on several.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use support::PATIENCE;
use support::entry::{MINUTE, claim, key};
use tokio::runtime::{Builder, Runtime};
use tower_idempotency::RedisStore;
use tower_idempotency::store::{Begin, Store};

use crate::cluster_support::process;
use crate::server::Server;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Asks on a runtime until the store answers, as the layer's requests do.
fn must_answer_on(runtime: &Runtime, store: &RedisStore) {
    let start = Instant::now();
    runtime.block_on(async {
        loop {
            let (key, claim) = (key(1), claim());
            // As long as the layer's `store_timeout` is by default.
            let begun = store.begin(&key, &claim, MINUTE);
            let begun = tokio::time::timeout(Duration::from_millis(500), begun).await;
            match begun {
                Ok(Ok(Begin::Started | Begin::InProgress(_))) => return,
                Ok(Ok(other)) => panic!("{other:?}"),
                Ok(Err(_)) | Err(_) => assert!(start.elapsed() < PATIENCE, "no connection"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_task_that_connects_on_a_runtime_that_nobody_drives_is_replaced() {
    let test = "a_task_that_connects_on_a_runtime_that_nobody_drives_is_replaced";
    let [port] = process::free_ports();
    let (idle, driven) = (runtime(), runtime());
    let url = format!("redis://127.0.0.1:{port}/");
    let store = idle.block_on(async { RedisStore::connect_lazy(&url).unwrap() });
    let Some(_server) = Server::start_at(test, port, &[]) else {
        return;
    };
    must_answer_on(&driven, &store);
    // The one that was replaced does no harm when its runtime goes on.
    idle.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
    must_answer_on(&driven, &store);
}

#[test]
fn a_connection_whose_runtime_nobody_drives_is_made_anew_on_another() {
    let test = "a_connection_whose_runtime_nobody_drives_is_made_anew_on_another";
    let Some(server) = Server::start(test) else {
        return;
    };
    let (idle, driven) = (runtime(), runtime());
    let store = idle.block_on(async { RedisStore::connect(&server.url()).await.unwrap() });
    must_answer_on(&driven, &store);
}

#[test]
fn a_connection_whose_runtime_is_gone_is_made_anew_on_another() {
    let test = "a_connection_whose_runtime_is_gone_is_made_anew_on_another";
    let Some(server) = Server::start(test) else {
        return;
    };
    let gone = runtime();
    let store = gone.block_on(async { RedisStore::connect(&server.url()).await.unwrap() });
    drop(gone);
    must_answer_on(&runtime(), &store);
}

/// A runtime that has shut down drops a new task at once, in the middle of the call that starts it.
#[test]
fn a_store_can_be_made_and_asked_on_a_runtime_that_has_shut_down() {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        let gone = runtime();
        let handle = gone.handle().clone();
        drop(gone);
        let _entered = handle.enter();
        let store = RedisStore::connect_lazy("redis://127.0.0.1:1/").unwrap();
        let begun = tokio_test::task::spawn(store.begin(&key(1), &claim(), MINUTE)).poll();
        done.send(matches!(begun, std::task::Poll::Ready(Err(_))))
            .unwrap();
    });
    let failed = is_done
        .recv_timeout(PATIENCE)
        .expect("an end, and no deadlock");
    assert!(failed);
}
