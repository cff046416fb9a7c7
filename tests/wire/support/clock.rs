//! A clock that stands still.

use std::sync::mpsc;
use std::time::Duration;

use ::support::PATIENCE;

/// Tokio's clock, which stands still until the test moves it.
///
/// A clock that is merely paused jumps to the next timer as soon as all tasks wait, also where they
/// wait for a socket. A blocking task that is running keeps it from that.
pub(crate) struct StoppedClock(#[allow(dead_code)] mpsc::Sender<()>);

impl StoppedClock {
    pub(crate) fn new() -> Self {
        let (stop, stopped) = mpsc::channel();
        // A test that hangs must come to an end: then the clock jumps, and `soon` gives up.
        tokio::task::spawn_blocking(move || stopped.recv_timeout(PATIENCE));
        tokio::time::pause();
        Self(stop)
    }

    /// Lets time pass in steps that are small beside a lease.
    pub(crate) async fn advance(&self, seconds: u64) {
        for _ in 0..seconds {
            tokio::time::advance(Duration::from_secs(1)).await;
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
    }
}

impl Drop for StoppedClock {
    fn drop(&mut self) {
        tokio::time::resume();
    }
}
