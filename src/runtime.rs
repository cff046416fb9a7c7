//! The runtime of a call: its timers, and what goes on in its background.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Sleep;

use crate::detached::{Counted, Detached, MaxDetached, Work};
use crate::trace;

/// The runtime of one call, if it has one, and the count of what is left to it.
///
/// The runtime is taken when the call begins, so that a drop outside of it works, too.
#[derive(Clone)]
pub(crate) struct Background {
    runtime: Option<Handle>,
    detached: Detached,
    max: MaxDetached,
}

impl Background {
    pub(crate) fn current(detached: &Detached, max: MaxDetached) -> Self {
        Self {
            runtime: Handle::try_current().ok(),
            detached: detached.clone(),
            max,
        }
    }

    /// Starts a task; without a runtime the work is dropped.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(work);
        }
    }

    /// Counts a handler or a body whose client has just left, unless there are too many already, or
    /// there is no runtime for it.
    pub(crate) fn leave(&self) -> Option<Counted> {
        self.runtime.as_ref()?;
        let counted = self.detached.enter(Work::Handler, self.max.number);
        match &counted {
            Some(_) => trace::detached(),
            None => trace::too_many_detached(self.max.number),
        }
        counted
    }

    /// Waits for work whose client has left, for as long as such work may take.
    pub(crate) async fn carry_on<F: Future>(&self, work: F) -> Option<F::Output> {
        let output = self.within(self.max.time, work).await;
        if output.is_none() {
            trace::detached_for_too_long(self.max.time);
        }
        output
    }

    /// Writes to the store now as far as that goes without waiting, and the rest in the background:
    /// see [`Background::write_later`].
    pub(crate) fn write(&self, write: impl Future<Output = ()> + Send + 'static) {
        if let Some(rest) = self.begin(write) {
            self.write_later(rest);
        }
    }

    /// Writes to the store in a task that a shutdown waits for. Without a runtime, or with too many
    /// such tasks, the write is dropped.
    pub(crate) fn write_later(&self, write: impl Future<Output = ()> + Send + 'static) {
        let max = self.max.number.max(LEAST_WRITES);
        match self.detached.enter(Work::Write, max) {
            Some(counted) => self.spawn(async move {
                let _counted = counted;
                write.await;
            }),
            None => trace::too_many_writes(max),
        }
    }

    /// Does work now as far as that goes without waiting, and the rest in a task.
    pub(crate) fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(rest) = self.begin(work) {
            self.spawn(rest);
        }
    }

    /// Polls work once, and returns it if it is not done.
    fn begin<F: Future<Output = ()>>(&self, work: F) -> Option<Pin<Box<F>>> {
        let _context = self.runtime.as_ref().map(Handle::enter);
        let mut work = Box::pin(work);
        let mut context = Context::from_waker(Waker::noop());
        // Called in `drop`, also while a handler's panic unwinds: work that panics here, too, must
        // not abort the process.
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut context)));
        matches!(polled, Ok(Poll::Pending)).then_some(work)
    }

    /// Returns whether there is a runtime that tasks can be started on.
    pub(crate) fn has_runtime(&self) -> bool {
        self.runtime.is_some()
    }

    /// Makes a timer. Without a runtime, or on one whose time is not enabled, there is none, and
    /// whoever waits does so without a limit.
    pub(crate) fn sleep(&self, duration: Duration) -> Option<Sleep> {
        let _context = self.runtime.as_ref()?.enter();
        // A runtime can't be asked whether its time is enabled, and a request must not panic if not.
        catch_unwind(|| tokio::time::sleep(duration)).ok()
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

/// How many writes may be under way however few handlers may: one that is dropped frees its key.
const LEAST_WRITES: usize = 100;

/// Polls a future once, with the waker of the task.
pub(crate) async fn poll_once<F: Future + Unpin>(mut future: F) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(Pin::new(&mut future).poll(context))).await
}
