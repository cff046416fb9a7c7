//! The task that gives the room of ended keys back without a request coming in.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout_at;

use super::shared::Shared;
use super::tick::Tick;

/// Who looks at the keys that are due.
#[derive(Debug, Default)]
pub(super) enum Sweeping {
    /// Nobody: the next claim on a runtime starts a task.
    #[default]
    Nobody,
    /// The task that is woken by this, started at this tick.
    Task { wake: Arc<Notify>, since: Tick },
    /// Claims alone, since a runtime has no timers and a task could not wait.
    Claims,
}

impl Sweeping {
    /// Returns the task that is missing, for the caller to spawn once it holds no lock.
    ///
    /// A task that neglects its keys is replaced, since its runtime is not driven any more. The new
    /// task gets as much time before it is replaced in turn.
    pub(super) fn missing(
        &mut self,
        shared: &Arc<Shared>,
        now: Tick,
        is_neglected: bool,
    ) -> Option<(Handle, Sweeper)> {
        match self {
            Self::Nobody => {}
            Self::Task { since, .. } if is_neglected && is_long_before(*since, now) => {}
            Self::Task { .. } | Self::Claims => return None,
        }
        let runtime = Handle::try_current().ok()?;
        let wake = Arc::<Notify>::default();
        *self = Self::Task {
            wake: Arc::clone(&wake),
            since: now,
        };
        let shared = Arc::downgrade(shared);
        Some((runtime, Sweeper { shared, wake }))
    }

    /// Lets the task look again at which key is due next.
    pub(super) fn wake(&self) {
        if let Self::Task { wake, .. } = self {
            wake.notify_one();
        }
    }

    /// Returns whether the task with this waker is the one that sweeps.
    pub(super) fn is(&self, task: &Arc<Notify>) -> bool {
        matches!(self, Self::Task { wake, .. } if Arc::ptr_eq(wake, task))
    }
}

/// Returns whether a tick lies so far back that a task whose runtime is driven would have acted.
pub(super) fn is_long_before(tick: Tick, now: Tick) -> bool {
    tick.saturating_add(PATIENCE) < now
}

/// A task that ends when the store is empty or gone, or when another has taken its place.
pub(super) struct Sweeper {
    shared: Weak<Shared>,
    wake: Arc<Notify>,
}

impl Sweeper {
    pub(super) async fn run(self) {
        while let Some(shared) = self.shared.upgrade() {
            if shared.sweep() > 0 {
                drop(shared);
                // A pause after each chunk, so that a million keys hold nobody up.
                tokio::task::yield_now().await;
                continue;
            }
            shared.shrink();
            let Some(next) = shared.next_sweep(&self.wake) else {
                return;
            };
            // Panics on a runtime without timers, and there is no other way to ask for them.
            let timer = catch_unwind(AssertUnwindSafe(|| timeout_at(next, self.wake.notified())));
            let Ok(timer) = timer else {
                shared.leave_sweeping(&self.wake, Sweeping::Claims);
                return;
            };
            drop(shared);
            let _ = timer.await;
        }
    }
}

impl Drop for Sweeper {
    /// Lets the next claim start another task if this one ends with its runtime.
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.leave_sweeping(&self.wake, Sweeping::Nobody);
        }
    }
}

/// How many ticks a task may be late.
const PATIENCE: Tick = 2;
