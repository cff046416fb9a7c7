//! Steps that go on although nobody waits for them.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// The steps whose request has stopped waiting, and which the server may still be at.
///
/// If their connections were closed, the server would go on with what they wait for, such as a lock,
/// and new connections would come on top. So each step keeps its place until it is over.
#[derive(Default)]
pub(super) struct Abandoned {
    steps: Mutex<Vec<Step>>,
    count: AtomicUsize,
    last: AtomicU64,
}

struct Step {
    number: u64,
    since: Instant,
    is_sent: Arc<AtomicBool>,
    task: Option<AbortHandle>,
}

impl Abandoned {
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Lets a step go on in the background. `is_sent` says whether it has a connection.
    pub(super) fn carry_on(
        self: &Arc<Self>,
        runtime: &Handle,
        is_sent: Arc<AtomicBool>,
        step: impl Future<Output = ()> + Send + 'static,
    ) {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        {
            let mut steps = self.steps();
            steps.push(Step {
                number,
                since: Instant::now(),
                is_sent,
                task: None,
            });
            self.count.store(steps.len(), Ordering::Release);
        }
        // Not under the lock: a runtime that ends drops the task, and so takes it from the list.
        let leave = Leave(Arc::clone(self), number);
        let task = runtime.spawn(async move {
            let _leave = leave;
            step.await;
        });
        let mut steps = self.steps();
        if let Some(step) = steps.iter_mut().find(|step| step.number == number) {
            step.task = Some(task.abort_handle());
        }
    }

    /// Ends the steps that can't end by themselves, after the server has answered on a new
    /// connection.
    ///
    /// A step without a connection waits between two tries to connect. One that has a connection,
    /// and is not among what the server is at, waits on a connection that is dead.
    pub(super) fn end(&self, server_is_at_some: bool, server_was_down: bool) {
        let is_over = |step: &&Step| {
            let is_overdue = step.since.elapsed() > OVERDUE;
            if step.is_sent.load(Ordering::Acquire) {
                is_overdue && !server_is_at_some
            } else {
                is_overdue || server_was_down
            }
        };
        let over: Vec<_> = self
            .steps()
            .iter()
            .filter(is_over)
            .filter_map(|step| step.task.clone())
            .collect();
        for task in over {
            task.abort();
        }
    }

    fn steps(&self) -> MutexGuard<'_, Vec<Step>> {
        // What is done under the lock leaves the list whole.
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a step from the list when its task ends, however it does.
struct Leave(Arc<Abandoned>, u64);

impl Drop for Leave {
    fn drop(&mut self) {
        let mut steps = self.0.steps();
        steps.retain(|step| step.number != self.1);
        self.0.count.store(steps.len(), Ordering::Release);
    }
}

/// How long a step may go on in the background before its connection is doubted.
const OVERDUE: Duration = Duration::from_secs(1);
