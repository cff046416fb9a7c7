//! The task that connects when a connection is gone.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::reconnecting::Shared;

/// A task that tries to connect until it succeeds, the store is gone, or another has taken its
/// place.
pub(super) struct Connector {
    shared: Weak<Shared>,
    task: Arc<()>,
}

impl Connector {
    pub(super) fn new(shared: &Arc<Shared>, task: Arc<()>) -> Self {
        Self {
            shared: Arc::downgrade(shared),
            task,
        }
    }

    /// Tries, and gives a sign of itself meanwhile.
    pub(super) async fn run(self, pause: Duration) {
        let mut connected = pin!(self.try_until_connected(pause));
        while timeout(SIGN, connected.as_mut()).await.is_err() {
            match self.shared.upgrade() {
                Some(shared) if shared.is_connecting(&self.task) => {}
                _ => return,
            }
        }
    }

    async fn try_until_connected(&self, mut pause: Duration) {
        loop {
            sleep(pause).await;
            let Some(shared) = self.shared.upgrade() else {
                return;
            };
            if shared.connect(Some(&self.task)).await.is_ok() {
                return;
            }
            pause = (pause * 2).clamp(FIRST_PAUSE, LAST_PAUSE);
        }
    }
}

impl Drop for Connector {
    /// Lets the next command start another task, even if this one ends with its runtime.
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.leave_connecting(&self.task);
        }
    }
}

/// How often the task shows that its runtime is driven.
const SIGN: Duration = Duration::from_millis(250);

/// The pauses between two attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
pub(super) const LAST_PAUSE: Duration = Duration::from_millis(100);
