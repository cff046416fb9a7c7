//! The runtime of a call: its timers, and what goes on in its background.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use crate::detached::Detached;

/// The runtime of one call, if it has one, and the count of what is left to it.
///
/// The runtime is taken when the call begins, so that a drop outside of it works, too.
#[derive(Clone)]
pub(crate) struct Background {
    runtime: Option<Handle>,
    detached: Detached,
}

impl Background {
    pub(crate) fn current(detached: &Detached) -> Self {
        Self {
            runtime: Handle::try_current().ok(),
            detached: detached.clone(),
        }
    }

    /// Carries work on in the background; without a runtime it is dropped.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            let counted = self.detached.enter();
            runtime.spawn(async move {
                let _counted = counted;
                work.await;
            });
        }
    }

    /// Does work now as far as that goes without waiting, and the rest in the background.
    pub(crate) fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        let _context = self.runtime.as_ref().map(Handle::enter);
        let mut work = Box::pin(work);
        let mut context = Context::from_waker(Waker::noop());
        // Called in `drop`, also while a handler's panic unwinds: a store that panics here, too,
        // must not abort the process.
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut context)));
        if let Ok(Poll::Pending) = polled {
            self.spawn(work);
        }
    }

    /// Runs work in a task of its own until the result is dropped. It is not counted as detached.
    pub(crate) fn spawn_while_held(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Option<AbortOnDrop> {
        let runtime = self.runtime.as_ref()?;
        Some(AbortOnDrop(runtime.spawn(work)))
    }

    /// Makes a timer; without a runtime there is none, and who waits does so without a limit.
    pub(crate) fn sleep(&self, duration: Duration) -> Option<Sleep> {
        let _context = self.runtime.as_ref()?.enter();
        Some(tokio::time::sleep(duration))
    }

    /// Waits for a future, at most for `limit`. No timer is made if it is ready at once.
    pub(crate) async fn within<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        if let Poll::Ready(output) = poll_once(future.as_mut()).await {
            return Some(output);
        }
        let Some(sleep) = self.sleep(limit) else {
            return Some(future.await);
        };
        let mut sleep = pin!(sleep);
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            sleep.as_mut().poll(context).map(|()| None)
        })
        .await
    }
}

/// Ends a task when it is dropped.
pub(crate) struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Polls a future once, with the waker of the task.
pub(crate) async fn poll_once<F: Future + Unpin>(mut future: F) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(Pin::new(&mut future).poll(context))).await
}
