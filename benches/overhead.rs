//! What the layer costs: `cargo bench -p benches --bench overhead`.
//!
//! One axum handler, which answers 201 with 256 bytes of JSON, is called in process: bare, under a
//! layer that does nothing, and under the idempotency layer. The table is the one to read. Its rows
//! take turns in many short rounds, since a machine is not equally fast all the time, and a row is
//! compared with the bare handler of the same round. Below it, divan shows how far single calls
//! spread.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::unwrap_used, reason = "what can't go on ends here")]

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use axum::routing::any;
use axum::{Json, Router};
use divan::Bencher;
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::runtime::Runtime;
use tower::ServiceExt;
use tower::layer::util::Identity;
use tower_idempotency::{IdempotencyLayer, MemoryStore, Outcome, Unprotected};

fn main() {
    if std::env::args().any(|argument| argument == "--bench") {
        print_table();
    }
    divan::main();
}

/// One handler for all rows.
async fn create() -> (StatusCode, Json<Vm>) {
    let vm = Vm {
        id: 1,
        name: "web-1",
        addresses: ["192.0.2.17", "198.51.100.4", "203.0.113.80"],
        note: NOTE,
    };
    (StatusCode::CREATED, Json(vm))
}

#[derive(Serialize)]
struct Vm {
    id: u64,
    name: &'static str,
    addresses: [&'static str; 3],
    note: &'static str,
}

/// Long enough for 256 bytes of JSON in all.
const NOTE: &str = "The quick brown fox jumps over the lazy dog, and over the dog once more, and \
    then it goes home. On the way it meets a hen, but that is another story, for another day.";

/// What is measured, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Row {
    Bare,
    Identity,
    PassedThroughGet,
    PassedThroughNoKey,
    FirstWrite,
    Replay,
}

const ROWS: [Row; 6] = [
    Row::Bare,
    Row::Identity,
    Row::PassedThroughGet,
    Row::PassedThroughNoKey,
    Row::FirstWrite,
    Row::Replay,
];

impl Row {
    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare handler",
            Self::Identity => "a layer that does nothing",
            Self::PassedThroughGet => "GET, passed through",
            Self::PassedThroughNoKey => "POST without a key, passed through",
            Self::FirstWrite => "POST with a new key",
            Self::Replay => "POST with a known key, replayed",
        }
    }

    /// Makes the service, with an empty store; for replays, the first request has been answered.
    async fn service(self) -> Router {
        let app = Router::new().route("/vms", any(create));
        let layer = IdempotencyLayer::new(MemoryStore::new());
        let app = match self {
            Self::Bare => app,
            Self::Identity => app.layer(Identity::new()),
            _ => app.layer(layer),
        };
        if self == Self::Replay {
            call(app.clone(), self.request(0)).await;
        }
        app
    }

    /// Makes a request: the same size in all rows, which differ in as little as can be.
    fn request(self, number: u64) -> Request<Body> {
        let key = match self {
            Self::Replay => 0,
            _ => number,
        };
        let method = match self {
            Self::PassedThroughGet => Method::GET,
            _ => Method::POST,
        };
        let key_header = match self {
            Self::PassedThroughNoKey => "x-request-id",
            _ => "idempotency-key",
        };
        Request::builder()
            .method(method)
            .uri("/vms")
            .header("x-api-key", "6b7f0e4d2a1c4f5e9d8c7b6a59483726")
            .header(key_header, format!("8e03978e-40d5-43dd-bc93-{key:012x}"))
            .body(Body::empty())
            .unwrap()
    }

    /// Makes sure that the row measures what its name says.
    async fn check(self) {
        let app = self.service().await;
        for number in 1..=3 {
            let response = app.clone().oneshot(self.request(number)).await.unwrap();
            assert_eq!(response.status(), StatusCode::CREATED);
            let expected = match self {
                Self::Bare | Self::Identity => None,
                // Of this one, the layer leaves no trace.
                Self::PassedThroughGet => None,
                Self::PassedThroughNoKey => Some(Outcome::PassedThrough(Unprotected::NoKey)),
                Self::FirstWrite => Some(Outcome::Kept),
                Self::Replay => Some(Outcome::Replayed),
            };
            assert_eq!(response.extensions().get().copied(), expected, "{self:?}");
            assert_eq!(
                response
                    .into_body()
                    .collect()
                    .await
                    .unwrap()
                    .to_bytes()
                    .len(),
                256
            );
        }
    }
}

/// What is measured of a request: the call, and its response read to the end.
async fn call(app: Router, request: Request<Body>) {
    let mut body = app.oneshot(request).await.unwrap().into_body();
    while let Some(frame) = body.frame().await {
        divan::black_box(frame.unwrap());
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn print_table() {
    const ROUNDS: usize = 2000;
    const BATCH: u64 = 100;

    let runtime = runtime();
    for row in ROWS {
        runtime.block_on(row.check());
    }
    let mut times = vec![[Duration::ZERO; ROWS.len()]; ROUNDS];
    for round in &mut times {
        for (row, time) in ROWS.iter().zip(round) {
            let app = runtime.block_on(row.service());
            runtime.block_on(async {
                for number in 0..10 {
                    call(app.clone(), row.request(number)).await;
                }
            });
            let requests: Vec<_> = (10..10 + BATCH).map(|number| row.request(number)).collect();
            *time = runtime.block_on(async {
                let start = Instant::now();
                for request in requests {
                    call(app.clone(), request).await;
                }
                start.elapsed()
            });
        }
    }
    println!(
        "{:36} {:>9} {:>9} {:>20}",
        "request", "median", "ratio", "middle half"
    );
    for (at, row) in ROWS.iter().enumerate() {
        let nanos = |round: &[Duration; ROWS.len()]| round[at].as_nanos() as f64 / BATCH as f64;
        let [_, median, _] = quartiles(times.iter().map(nanos));
        let ratio = |round: &[Duration; ROWS.len()]| {
            round[at].as_nanos() as f64 / round[0].as_nanos() as f64
        };
        let [low, middle, high] = quartiles(times.iter().map(ratio));
        let half = format!("{low:.2} to {high:.2}");
        println!(
            "{:36} {median:>6.0} ns {middle:>9.2} {half:>20}",
            row.name()
        );
    }
    println!();
}

fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[values.len() * quarter / 4])
}

#[divan::bench(args = ROWS, sample_count = 50, sample_size = 100)]
fn request(bencher: Bencher<'_, '_>, row: Row) {
    let runtime = runtime();
    let app = runtime.block_on(row.service());
    let mut number = 0;
    bencher
        .with_inputs(|| {
            number += 1;
            row.request(number)
        })
        .bench_local_values(|request| runtime.block_on(call(app.clone(), request)));
}
