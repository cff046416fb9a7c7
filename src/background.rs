//! Work that goes on after its client has left, and the timers of a call.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

/// A handle to the work of a layer that goes on although its client has left.
///
/// A handler whose client has hung up is carried on to its end in the background, and so is a
/// response body, or a write to the store that is tried again. A server that shuts down waits for
/// that work, after it has stopped taking requests and before it drops its runtime.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::{IdempotencyLayer, MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let layer = IdempotencyLayer::new(MemoryStore::new());
/// let detached = layer.detached();
/// // Serve, with the layer in the stack, until the signal to shut down comes. Then:
/// if let Err(unfinished) = detached.wait(Duration::from_secs(30)).await {
///     eprintln!("{unfinished}");
/// }
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Detached {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    count: AtomicUsize,
    idle: Notify,
}

impl Detached {
    /// Returns how many pieces of work are under way.
    pub fn count(&self) -> usize {
        self.shared.count.load(Ordering::Acquire)
    }

    /// Waits until no such work is under way, at most for `limit`.
    ///
    /// # Errors
    ///
    /// Returns [`Unfinished`] if work is still under way after `limit`. It goes on, and the wait can
    /// be repeated.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime with time enabled.
    ///
    /// # Cancellation
    ///
    /// The wait can be dropped at any time; the work goes on.
    pub async fn wait(&self, limit: Duration) -> Result<(), Unfinished> {
        let idle = async {
            loop {
                let mut notified = pin!(self.shared.idle.notified());
                notified.as_mut().enable();
                if self.count() == 0 {
                    return;
                }
                notified.await;
            }
        };
        let waited = tokio::time::timeout(limit, idle).await;
        waited.map_err(|_| Unfinished {
            count: self.count(),
        })
    }

    fn enter(&self) -> Counted {
        self.shared.count.fetch_add(1, Ordering::AcqRel);
        Counted(Arc::clone(&self.shared))
    }
}

impl fmt::Debug for Detached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached")
            .field("count", &self.count())
            .finish()
    }
}

/// Work that was still under way when the wait for it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    count: usize,
}

impl Unfinished {
    /// Returns how many pieces of work were under way.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "detached requests still running: {}", self.count)
    }
}

impl std::error::Error for Unfinished {}

/// Counts one piece of work for as long as it lives.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

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
