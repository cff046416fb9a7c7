//! Waiting for the work that goes on after its client has left.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// A handle to the work of a layer that goes on although its client has left.
///
/// A handler whose client has hung up goes on to its end in the background, and so does its
/// response body. A write to the store that failed is tried again there. A server that shuts down
/// waits for that work, after it has stopped taking requests and before it drops its runtime.
/// [`max_detached`](crate::IdempotencyLayer::max_detached) bounds it.
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
    handlers: AtomicUsize,
    writes: AtomicUsize,
    idle: Notify,
}

/// What goes on without a client.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// A handler, or the body of its response.
    Handler,
    /// A write to the store that is tried again.
    Write,
}

/// How long detached work may take, and how much of each kind there may be at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaxDetached {
    pub(crate) time: Duration,
    pub(crate) number: usize,
}

impl Shared {
    fn count_of(&self, work: Work) -> &AtomicUsize {
        match work {
            Work::Handler => &self.handlers,
            Work::Write => &self.writes,
        }
    }
}

impl Detached {
    /// Returns how many pieces of work are under way.
    pub fn count(&self) -> usize {
        let handlers = self.shared.handlers.load(Ordering::Acquire);
        handlers + self.shared.writes.load(Ordering::Acquire)
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

    /// Counts one more piece of work until the result is dropped, unless there are `max` already.
    pub(crate) fn enter(&self, work: Work, max: usize) -> Option<Counted> {
        let count = self.shared.count_of(work);
        let added = count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
            (count < max).then_some(count + 1)
        });
        added.ok().map(|_| Counted {
            shared: Arc::clone(&self.shared),
            work,
        })
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
pub(crate) struct Counted {
    shared: Arc<Shared>,
    work: Work,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let count = self.shared.count_of(self.work);
        if count.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Whoever waits looks at the other kind, too.
            self.shared.idle.notify_waiters();
        }
    }
}
