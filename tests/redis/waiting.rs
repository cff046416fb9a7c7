//! What waiters cost the server.

use std::time::Duration;

use http::StatusCode;
use redis::InfoDict;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower_idempotency::{IdempotencyLayer, InFlight, RedisStore};

use crate::cluster_support::api;
use crate::server::Server;
use support::{until, waiters};

static GATE: Semaphore = Semaphore::const_new(0);

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_waiters_on_a_hundred_keys_cost_no_more_than_is_said() {
    const KEYS: usize = 100;
    const EACH: usize = 100;
    let Some(server) = Server::start("ten_thousand_waiters_on_a_hundred_keys") else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let elsewhere = IdempotencyLayer::new(store.clone())
        // So patient that a busy machine does not count as a store that fails, and so long that nothing
        // is renewed meanwhile.
        .store_timeout(Duration::from_secs(60))
        .lease(Duration::from_secs(24 * 60 * 60));
    let first = api::router(elsewhere, |_| async {
        assert!(GATE.acquire().await.is_err(), "it is closed");
        (StatusCode::CREATED, "done")
    });
    let here = IdempotencyLayer::new(store)
        .store_timeout(Duration::from_secs(60))
        .in_flight(InFlight::Wait(Duration::from_secs(600)));
    let waiting = api::router(here.clone(), |_| async { "it runs elsewhere" });
    let mut answers = JoinSet::new();
    for n in 0..KEYS {
        let app = first.clone();
        answers.spawn(async move { api::call(&app, &format!("k{n}")).await });
    }
    until(|| server.ask::<usize>("DBSIZE") == KEYS).await;
    for n in 0..KEYS * EACH {
        let app = waiting.clone();
        answers.spawn(async move { api::call(&app, &format!("k{}", n % KEYS)).await });
    }
    until(|| waiters(&here) == [KEYS * EACH, KEYS]).await;
    // Until all have asked a second time, and the pauses are as long as they get.
    sleep(Duration::from_secs(4)).await;

    let () = server.ask("CONFIG RESETSTAT");
    let start = Instant::now();
    sleep(Duration::from_secs(5)).await;
    let calls = steps(&server);
    let seconds = start.elapsed().as_secs_f64();
    let a_second = calls as f64 / seconds;
    println!("10,000 waiters on 100 keys ask the server {a_second:.0} times a second");
    assert_eq!(waiters(&here), [KEYS * EACH, KEYS]);
    // One a pause and key, and a pause is at least half a second.
    assert!(
        calls >= KEYS && a_second <= 2.0 * KEYS as f64 * 1.1,
        "{a_second}"
    );

    GATE.close();
    let released = Instant::now();
    let mut replays = 0;
    while let Some(answer) = answers.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.body, "done");
        replays += usize::from(answer.is_replay());
    }
    println!("all have their answer after {:?}", released.elapsed());
    assert_eq!(replays, KEYS * EACH);
}

/// Returns how many steps of the store the server has taken.
fn steps(server: &Server) -> usize {
    let shown: InfoDict = server.ask("INFO commandstats");
    let calls = |command: &str| {
        let stats: String = shown.get(&format!("cmdstat_{command}"))?;
        let calls = stats
            .split(',')
            .find_map(|stat| stat.strip_prefix("calls="))?;
        calls.parse::<usize>().ok()
    };
    ["set", "get", "evalsha", "eval"]
        .map(|command| calls(command).unwrap_or(0))
        .iter()
        .sum()
}
