//! Duplicates that wait in one process for the answer of another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower_idempotency::store::DynStore;
use tower_idempotency::{IdempotencyLayer, InFlight};

use super::instance::Instance;
use super::{api, store};
use crate::answer::Answer;
use crate::wait::{soon, until};
use crate::waiters::waiters;

const WAITERS: usize = 20;
/// The longest pause between two questions, as the docs say, and a lot for a busy machine.
const WITHIN: Duration = Duration::from_secs(1 + 5);

/// The other process answers: whoever waits here has its answer within a pause.
pub async fn the_answer_of_another_process_is_waited_for(url: &str) {
    let mut first = Instance::start(url, Duration::from_secs(60), true);
    let here = Here::open(url).await;
    let key = api::run_id();
    let sent = tokio::spawn({
        let (authority, key) = (first.authority().to_owned(), key.clone());
        async move { api::send(&api::client(), &authority, &key).await.unwrap() }
    });
    first.wait_for_runs(1);
    let mut answers = here.wait(&key).await;
    first.release();
    let sent = sent.await.unwrap();
    let ended = Instant::now();
    while let Some(answer) = soon(answers.join_next()).await {
        let answer = answer.unwrap();
        assert!(answer.is_replay(), "{answer:?}");
        assert_eq!(answer.body, sent.body);
    }
    let took = ended.elapsed();
    println!("{WAITERS} waiters had the answer of another process within {took:?}");
    assert!(took <= WITHIN, "{took:?}");
    assert_eq!(here.runs.load(Ordering::SeqCst), 0);
    assert_eq!(first.end(), [key]);
    assert_eq!(waiters(&here.layer), [0, 0]);
}

/// The other process is killed by `kill -9`: when its lease has ended, one of those who wait here runs.
pub async fn the_key_of_a_killed_process_is_run_by_one_waiter(url: &str) {
    let lease = Duration::from_secs(3);
    let doomed = Instance::start(url, lease, true);
    let here = Here::open(url).await;
    let key = api::run_id();
    tokio::spawn({
        let (authority, key) = (doomed.authority().to_owned(), key.clone());
        async move { api::send(&api::client(), &authority, &key).await }
    });
    doomed.wait_for_runs(1);
    let mut answers = here.wait(&key).await;
    assert_eq!(doomed.kill(), [key]);
    let killed = Instant::now();
    let mut replays = 0;
    while let Some(answer) = soon(answers.join_next()).await {
        let answer = answer.unwrap();
        assert_eq!(answer.status, StatusCode::CREATED);
        assert_eq!(answer.body, "run 1");
        replays += usize::from(answer.is_replay());
    }
    let took = killed.elapsed();
    println!("{WAITERS} waiters on the key of a killed process were answered after {took:?}");
    assert!(took <= lease + WITHIN, "{took:?}");
    assert_eq!(
        (here.runs.load(Ordering::SeqCst), replays),
        (1, WAITERS - 1)
    );
}

/// This process, with an API of its own on the same store.
struct Here {
    layer: IdempotencyLayer<DynStore>,
    router: Router,
    runs: Arc<AtomicUsize>,
}

impl Here {
    async fn open(url: &str) -> Self {
        let layer = IdempotencyLayer::new(store::open(url).await)
            // So patient that a busy machine does not count as a store that fails.
            .store_timeout(Duration::from_secs(20))
            .in_flight(InFlight::Wait(Duration::from_secs(60)));
        let runs = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&runs);
        let router = api::router(layer.clone(), move |_| {
            let run = count.fetch_add(1, Ordering::SeqCst) + 1;
            async move { (StatusCode::CREATED, format!("run {run}")) }
        });
        Self {
            layer,
            router,
            runs,
        }
    }

    /// Sends duplicates, which wait.
    async fn wait(&self, key: &str) -> JoinSet<Answer<Bytes>> {
        let mut answers = JoinSet::new();
        for _ in 0..WAITERS {
            let (router, key) = (self.router.clone(), key.to_owned());
            answers.spawn(async move { api::call(&router, &key).await });
        }
        until(|| waiters(&self.layer) == [WAITERS, 1]).await;
        answers
    }
}
