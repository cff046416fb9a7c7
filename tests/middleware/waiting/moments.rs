//! The first request has its answer in the very moment in which a waiter asks for it.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower::ServiceExt;

use super::{LONG, SECOND, wait, waiting};
use crate::support::{Call, Fault, Gate, Handler, STORE_TIMEOUT, numbered, send, write};

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_while_the_store_is_asked_is_not_missed() {
    /// How long the store's replies take, after it has looked.
    const REPLY: Duration = STORE_TIMEOUT.saturating_sub(Duration::from_millis(10));
    // During the first asking, before the wait, and during the second one.
    for asking in [1, 2] {
        let gate = Gate::new();
        let handler = Handler::at(&gate);
        let (layer, store) = waiting(LONG);
        let app = handler.under(&layer);
        let first = tokio::spawn(app.clone().oneshot(write("k")));
        gate.reached().await;
        // Has made the pauses long, so that the next turn is not at that moment.
        let mut answers = wait(&layer, &app, 1).await;
        sleep(SECOND * 10).await;
        store.always(Call::Begin, Fault::LateReply(REPLY));
        let start = Instant::now();
        let late = tokio::spawn({
            let app = app.clone();
            async move {
                let answer = send(&app, write("k")).await;
                (start.elapsed(), answer)
            }
        });
        sleep(REPLY * asking - REPLY / 2).await;
        gate.open();
        first.await.unwrap().unwrap();
        let (took, answer) = late.await.unwrap();
        answer.assert_replay(numbered(1));
        // A timer takes up to a millisecond more.
        let askings = REPLY * (asking + 1) + Duration::from_millis(3);
        assert!(took <= askings, "during asking {asking}: {took:?}");
        answers
            .join_next()
            .await
            .unwrap()
            .unwrap()
            .1
            .assert_replay(numbered(1));
    }
}
