//! Many requests with one key at once, and retries at the earliest moment.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::{BOTH, Client, Frames, Server, Version, data, layer};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_100_requests_with_one_key_at_once_one_runs() {
    for version in BOTH {
        let gate = Arc::new(Semaphore::new(0));
        let closed = Arc::clone(&gate);
        let server = Server::start(layer(), move |_, _| {
            let gate = Arc::clone(&closed);
            async move {
                let _permit = gate.acquire().await.unwrap();
                (StatusCode::CREATED, "done").into_response()
            }
        })
        .await;
        let client = Client::new(server.addr, version);
        let mut requests = JoinSet::new();
        for _ in 0..100 {
            let client = client.clone();
            requests.spawn(async move { client.post("k", "").await });
        }
        // The first one can't be answered yet, so these are the other 99.
        for _ in 0..99 {
            let refused = requests.join_next().await.unwrap().unwrap();
            assert_eq!(refused.status, StatusCode::CONFLICT);
            assert_eq!(refused.headers["retry-after"], "1");
        }
        gate.add_permits(1);
        let first = requests.join_next().await.unwrap().unwrap();
        assert_eq!(
            (first.status, first.is_replay()),
            (StatusCode::CREATED, false)
        );
        assert_eq!(server.runs(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_1000_rounds_of_4_one_of_each_runs() {
    const ROUNDS: usize = 1000;
    let server = Server::start(layer(), |run, _| async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        (StatusCode::CREATED, run.to_string()).into_response()
    })
    .await;
    let clients = [0; 4].map(|_| Client::new(server.addr, Version::Http1));
    for round in 0..ROUNDS {
        let mut requests = JoinSet::new();
        for client in clients.clone() {
            requests.spawn(async move { client.post(&format!("k{round}"), "").await });
        }
        let mut fresh = 0;
        while let Some(answer) = requests.join_next().await {
            let answer = answer.unwrap();
            match answer.status {
                StatusCode::CREATED => {
                    assert_eq!(answer.body, round.to_string());
                    fresh += usize::from(!answer.is_replay());
                }
                status => assert_eq!(status, StatusCode::CONFLICT),
            }
        }
        assert_eq!(fresh, 1, "round {round}");
    }
    assert_eq!(server.runs(), ROUNDS);
}

/// Sends 1,000 requests, and retries each from another connection when its last byte was read.
async fn retry_at_once(respond: fn() -> Response) {
    let server = Server::start(layer(), move |_, _| async move { respond() }).await;
    for version in BOTH {
        let client = Client::new(server.addr, version);
        let other = Client::new(server.addr, version);
        for n in 0..500 {
            let key = format!("{version:?}-{n}");
            let first = client.post(&key, "").await;
            let retry = other.post(&key, "").await;
            assert!(retry.is_replay(), "{key}: {retry:?}");
            assert_eq!(retry.body, first.body);
        }
    }
    assert_eq!(server.runs(), 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_retry_right_after_the_last_byte_of_a_body_of_known_size_is_a_replay() {
    retry_at_once(|| "hello".into_response()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_retry_right_after_the_last_byte_of_a_body_of_unknown_size_is_a_replay() {
    retry_at_once(|| Response::new(Frames::of(None, [data("he"), data("llo")]))).await;
}
