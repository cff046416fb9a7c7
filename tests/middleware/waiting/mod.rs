//! Duplicates that wait for the answer of the first request.

mod bounds;
mod failing_store;
mod freed;
mod kept;
mod moments;
mod prefer;
mod processes;
mod transactional;

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tower_idempotency::{Idempotency, IdempotencyLayer, InFlight, Store};

use crate::support::{Answer, Handler, Scripted, scripted, send, until, waiters, write};

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any wait of a test that is to end otherwise.
const LONG: Duration = Duration::from_secs(60);

/// A layer that lets duplicates wait.
fn waiting(max: Duration) -> (IdempotencyLayer<Scripted>, Scripted) {
    let (layer, store) = scripted();
    (layer.in_flight(InFlight::Wait(max)), store)
}

/// Answers, and when they came.
type Answers = JoinSet<(Instant, Answer)>;

/// Sends duplicates one after the other, each when the last one waits.
async fn wait<St: Store>(
    layer: &IdempotencyLayer<St>,
    app: &Idempotency<Handler, St>,
    number: usize,
) -> Answers {
    let mut answers = JoinSet::new();
    let [already, _] = waiters(layer);
    for n in 1..=number {
        let app = app.clone();
        answers.spawn(async move {
            let answer = send(&app, write("k")).await;
            (Instant::now(), answer)
        });
        until(|| waiters(layer)[0] == already + n).await;
    }
    // So that the last one has asked the store, too.
    tokio::task::yield_now().await;
    answers
}

#[track_caller]
fn assert_nobody_waits<St>(layer: &IdempotencyLayer<St>) {
    assert_eq!(waiters(layer), [0, 0]);
}
