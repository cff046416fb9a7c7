//! What two workers get done for 64 tasks, and how often one key runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::http::Method;
use http_body_util::BodyExt;
use tokio::sync::Barrier;
use tower::ServiceExt;

use crate::contenders::{self, Contender};
use crate::latency::median;

/// Requests a second of each contender: 64 tasks, each sending every key of its own twice, so that
/// one half are first writes and the other replays.
pub fn measure(rounds: usize, workers: usize) -> Vec<f64> {
    let runtime = runtime(workers);
    let all = runtime.block_on(contenders::all());
    let mut samples = vec![Vec::new(); all.len()];
    for round in 0..rounds + 1 {
        for (index, contender) in all.iter().enumerate() {
            let rate = runtime.block_on(rate(contender, round));
            if round > 0 {
                samples[index].push(rate);
            }
        }
    }
    samples.into_iter().map(median).collect()
}

async fn rate(contender: &Contender, round: usize) -> f64 {
    let tasks = (0..TASKS).map(|task| {
        let contender = contender.clone();
        let mut requests = Vec::new();
        for n in 0..REQUESTS / 2 {
            let key = format!("{round}-{task}-{n}");
            requests.push(contender.request(Method::POST, "/vms", &key));
            requests.push(contender.request(Method::POST, "/vms", &key));
        }
        async move {
            for request in requests {
                let Ok(response) = contender.app.clone().oneshot(request).await;
                assert_eq!(response.status(), 201, "{}", contender.name);
                let _ = std::hint::black_box(response.into_body().collect().await);
                tokio::task::yield_now().await;
            }
        }
    });
    let tasks: Vec<_> = tasks.collect();
    let start = Instant::now();
    let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    for task in tasks {
        task.await.expect("a task that ends");
    }
    (TASKS * REQUESTS) as f64 / start.elapsed().as_secs_f64()
}

/// How often the handler of each contender runs for 50 equal requests at once.
pub fn runs_for_equal_requests() -> Vec<usize> {
    let runtime = runtime(2);
    runtime.block_on(async {
        let mut runs = Vec::new();
        for contender in contenders::all().await {
            let barrier = Arc::new(Barrier::new(50));
            let tasks: Vec<_> = (0..50)
                .map(|_| {
                    let (contender, barrier) = (contender.clone(), Arc::clone(&barrier));
                    tokio::spawn(async move {
                        let request = contender.request(Method::POST, "/slow", "one-key");
                        barrier.wait().await;
                        contender.app.oneshot(request).await
                    })
                })
                .collect();
            for task in tasks {
                let _ = task.await.expect("a task that ends");
            }
            runs.push(contender.runs.load(Ordering::SeqCst));
        }
        runs
    })
}

fn runtime(workers: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .expect("a runtime")
}

const TASKS: usize = 64;
const REQUESTS: usize = 200;
