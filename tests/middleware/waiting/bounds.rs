//! How many may wait.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;
use tower_idempotency::Idempotency;

use super::{LONG, assert_nobody_waits, wait, waiters, waiting};
use crate::support::{Gate, Handler, Scripted, created, numbered, send, until, write};

#[tokio::test(start_paused = true)]
async fn the_101st_waiter_of_a_key_is_refused_at_once_and_one_that_leaves_makes_room() {
    let gate = Gate::new();
    let handler = Handler::at(&gate);
    let (layer, _) = waiting(LONG);
    let app = handler.under(&layer);
    let first = tokio::spawn(app.clone().oneshot(write("k")));
    gate.reached().await;
    let mut answers = wait(&layer, &app, 100).await;
    let start = Instant::now();
    assert_refused(&app, "k").await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(waiters(&layer), [100, 1]);

    answers.abort_all();
    while answers.join_next().await.is_some() {}
    assert_nobody_waits(&layer);
    let mut answers = wait(&layer, &app, 100).await;
    assert_refused(&app, "k").await;
    gate.open();
    first.await.unwrap().unwrap();
    while let Some(answer) = answers.join_next().await {
        answer.unwrap().1.assert_replay(numbered(1));
    }
}

/// Sends a duplicate that would wait, and is not to.
async fn assert_refused(app: &Idempotency<Handler, Scripted>, key: &str) {
    let mut request = write(key);
    let prefer = http::HeaderValue::from_static("wait=5");
    request.headers_mut().insert("prefer", prefer);
    let answer = send(app, request).await;
    answer.assert_in_progress();
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(!answer.headers.contains_key("preference-applied"));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_waiters_are_all_and_each_has_the_answer_of_its_key() {
    let handler = Handler::new(|_, _| async {
        sleep(LONG / 2).await;
        created("done")
    });
    let (layer, _) = waiting(LONG);
    let app = handler.under(&layer);
    let mut answers = JoinSet::new();
    for n in 0..101 {
        let (app, key) = (app.clone(), format!("k{n}"));
        answers.spawn(async move { send(&app, write(&key)).await });
    }
    until(|| handler.runs() == 101).await;
    for n in 0..10_000 {
        let (app, key) = (app.clone(), format!("k{}", n % 100));
        answers.spawn(async move { send(&app, write(&key)).await });
    }
    until(|| waiters(&layer)[0] == 10_000).await;
    assert_eq!(waiters(&layer), [10_000, 100]);
    assert_refused(&app, "k100").await;
    assert_eq!(
        waiters(&layer),
        [10_000, 100],
        "nothing is left of a refused one"
    );
    let mut replays = 0;
    while let Some(answer) = answers.join_next().await {
        let answer = answer.unwrap();
        assert_eq!((answer.status.as_u16(), &*answer.body), (201, "done"));
        replays += usize::from(answer.is_replay());
    }
    assert_eq!((handler.runs(), replays), (101, 10_000));
    assert_nobody_waits(&layer);
}
