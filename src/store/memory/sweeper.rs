//! The task that gives the room of ended keys back without a request coming in.

use std::sync::{Arc, Weak};

use tokio::runtime::Handle;

use super::shared::Shared;

/// Starts the task on the current runtime; without one, room is given back when a claim needs it.
///
/// It ends when the store is empty or gone, and another starts with the next claim.
pub(super) fn start(shared: &Arc<Shared>) {
    let Ok(runtime) = Handle::try_current() else {
        shared.expiry().swept = false;
        return;
    };
    let sweeper = Sweeper(Arc::downgrade(shared));
    runtime.spawn(sweeper.run());
}

struct Sweeper(Weak<Shared>);

impl Sweeper {
    async fn run(mut self) {
        while let Some(shared) = self.0.upgrade() {
            if shared.sweep() {
                drop(shared);
                // A pause after each chunk, so that a million keys hold nobody up.
                tokio::task::yield_now().await;
                continue;
            }
            shared.shrink();
            let Some(next) = shared.next_sweep() else {
                // Another sweeper may run from here on, and dropping this one must not deny it.
                self.0 = Weak::new();
                return;
            };
            let wake = Arc::clone(&shared.wake);
            drop(shared);
            let _ = tokio::time::timeout_at(next, wake.notified()).await;
        }
    }
}

impl Drop for Sweeper {
    /// Lets the next claim start another task, also where this one's runtime is gone.
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.expiry().swept = false;
        }
    }
}
