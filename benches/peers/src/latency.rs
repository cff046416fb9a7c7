//! Time and allocations of one request, in interleaved rounds.

use std::time::Instant;

use axum::body::Body;
use axum::http::{Method, Request, Response};
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::contenders::{self, Contender};
use crate::counting;

/// What is sent, and what is in the store before.
#[derive(Clone, Copy)]
pub enum Case {
    PassThrough,
    FirstWrite,
    Replay,
}

/// Median time and allocations of one request.
#[derive(Clone, Copy)]
pub struct Latency {
    pub nanos: f64,
    pub allocations: f64,
}

/// Measures every contender: in each round one after the other, so that a slow moment of the
/// machine falls on all of them.
pub fn measure(case: Case, rounds: usize) -> Vec<Latency> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let all = contenders::all().await;
        let mut samples = vec![Vec::new(); all.len()];
        let mut allocations = vec![0; all.len()];
        for round in 0..rounds + WARM_UP {
            for (index, contender) in all.iter().enumerate() {
                let requests = requests(contender, case, round).await;
                let before = counting::count();
                let start = Instant::now();
                for request in requests {
                    let response = answer(contender, request).await;
                    assert_eq!(response.status(), 201, "{}", contender.name);
                    let body = response.into_body().collect().await.expect("a body");
                    std::hint::black_box(body);
                }
                let nanos = start.elapsed().as_nanos() as f64 / BATCH as f64;
                if round >= WARM_UP {
                    samples[index].push(nanos);
                    allocations[index] += counting::count() - before;
                }
            }
        }
        let per_request = (rounds * BATCH) as f64;
        let results = samples.into_iter().zip(allocations);
        results
            .map(|(samples, allocations)| Latency {
                nanos: median(samples),
                allocations: allocations as f64 / per_request,
            })
            .collect()
    })
}

/// Makes the requests of a round, and sends beforehand what must be in the store.
async fn requests(contender: &Contender, case: Case, round: usize) -> Vec<Request<Body>> {
    let mut requests = Vec::with_capacity(BATCH);
    for n in 0..BATCH {
        let key = format!("3f2b8a70-{round:04x}-4c1d-9e5f-{n:012x}");
        let replay = "3f2b8a70-replay-4c1d-9e5f-000000000000";
        requests.push(match case {
            Case::PassThrough => contender.request(Method::GET, "/vms", &key),
            Case::FirstWrite => contender.request(Method::POST, "/vms", &key),
            Case::Replay => contender.request(Method::POST, "/vms", replay),
        });
        if matches!(case, Case::Replay) && round == 0 && n == 0 {
            let first = contender.request(Method::POST, "/vms", replay);
            let _ = answer(contender, first).await.into_body().collect().await;
        }
    }
    requests
}

async fn answer(contender: &Contender, request: Request<Body>) -> Response<Body> {
    let Ok(response) = contender.app.clone().oneshot(request).await;
    response
}

pub fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Requests in a round.
const BATCH: usize = 200;
const WARM_UP: usize = 5;
