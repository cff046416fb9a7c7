//! Waiting without a look at the clock: gates, pending polls, and an end for what would hang.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// A place where one side stops until the other lets it pass.
#[derive(Clone)]
pub struct Gate {
    reached: Arc<Semaphore>,
    opened: Arc<Semaphore>,
}

impl Gate {
    pub fn new() -> Self {
        Self {
            reached: Arc::new(Semaphore::new(0)),
            opened: Arc::new(Semaphore::new(0)),
        }
    }

    /// Says that the gate is reached, and waits until it is opened.
    pub async fn pass(&self) {
        self.reached.add_permits(1);
        self.opened.acquire().await.unwrap().forget();
    }

    /// Waits until somebody has reached the gate.
    pub async fn reached(&self) {
        in_time(self.reached.acquire()).await.unwrap().forget();
    }

    /// Lets one pass, now or later.
    pub fn open(&self) {
        self.opened.add_permits(1);
    }
}

/// Wakes its task and is pending so many times. The layer may poll what is pending more than once
/// in one poll of its own.
pub async fn pend(times: usize) {
    for _ in 0..times {
        let mut pended = false;
        poll_fn(|context| {
            if std::mem::replace(&mut pended, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// Makes a test fail that would hang. The clock is paused, so that this takes no time.
pub async fn in_time<F: Future>(future: F) -> F::Output {
    const LONG: Duration = Duration::from_secs(60 * 60);
    match tokio::runtime::Handle::try_current() {
        Ok(_) => timeout(LONG, future).await.expect("an end"),
        // Polled by hand, which has an end.
        Err(_) => future.await,
    }
}

/// Waits for what has to come on a clock that runs, so that a test fails where it would hang.
pub async fn soon<F: Future>(future: F) -> F::Output {
    let waited = timeout(PATIENCE, future).await;
    waited.expect("this takes too long: it hangs")
}

/// Waits until something is so, where there is nothing to wait for.
pub async fn until(is_so: impl Fn() -> bool) {
    // Not on tokio's clock, which may stand still.
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "this takes too long: it hangs");
        tokio::task::yield_now().await;
    }
}

/// Far more than anything takes on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
