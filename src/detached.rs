//! Waiting for the work that goes on after its client has left.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

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

    /// Counts one more piece of work until the result is dropped.
    pub(crate) fn enter(&self) -> Counted {
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
pub(crate) struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
