//! The clock by which a store is judged.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The clock by which a store is judged: how long short leases are, and how exactly they must end.
///
/// # Examples
///
/// For a server that counts in whole seconds:
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::store::conformance::Clock;
///
/// let clock = Clock::real().precision(Duration::from_secs(1));
/// # let _ = clock;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    short: Duration,
    step: Duration,
    precision: Duration,
}

impl Clock {
    /// Creates the clock for a store whose time is tokio's, in a runtime whose clock is paused.
    ///
    /// Time is exact, and waiting takes none. For stores in memory only: a paused clock runs ahead
    /// while something outside the runtime works.
    pub fn paused() -> Self {
        Self {
            // Not a whole number of seconds, so that it can't be met by chance by rounding.
            short: Duration::from_millis(2_345),
            step: Duration::from_millis(1),
            precision: Duration::ZERO,
        }
    }

    /// Creates the clock for a store that has a clock of its own, such as a server.
    ///
    /// Short leases take a second, and may end 50 ms earlier or later.
    pub fn real() -> Self {
        Self {
            short: Duration::from_millis(1_040),
            step: Duration::from_millis(10),
            precision: Duration::from_millis(50),
        }
    }

    /// Sets how much earlier or later than asked for a lease or a ttl may end. Default: not at all
    /// for a paused clock, and 50 ms for a real one.
    #[must_use]
    pub fn precision(self, precision: Duration) -> Self {
        Self {
            short: self.short.max(precision * 4),
            precision,
            ..self
        }
    }

    /// Returns ever longer terms for a case to try, until it ends before the term does.
    pub(super) fn attempts(&self) -> impl Iterator<Item = Duration> + use<> {
        let short = self.short;
        (0..8).map(move |attempt| short * (1 << attempt))
    }

    /// Returns a term that is as short as can be.
    pub(super) fn shortest(&self) -> Duration {
        Duration::from_millis(1)
    }

    pub(super) fn now(&self) -> Instant {
        Instant::now()
    }

    pub(super) async fn sleep(&self, duration: Duration) {
        sleep(duration).await;
    }

    /// Waits for a moment between two looks at something that is to change.
    pub(super) async fn pause(&self) {
        sleep(self.step).await;
    }

    /// Runs a step for a while that is short for a person and long for a store, and returns its answer
    /// if it comes by then.
    ///
    /// A step that must wait shows by this that it does. One that is only slow is taken for one that
    /// waits, but never the other way round.
    pub(super) async fn a_moment_for<F: Future>(&self, step: Pin<&mut F>) -> Option<F::Output> {
        timeout(self.short / 8, step).await.ok()
    }

    /// Takes a step that starts a term, and returns the bounds of the term with its answer.
    pub(super) async fn grant<T>(
        &self,
        length: Duration,
        step: impl Future<Output = T>,
    ) -> (T, Term) {
        let asked = self.now();
        let answer = step.await;
        let term = Term {
            lasts_until: asked + length.saturating_sub(self.precision),
            over_from: self.now() + length + self.precision,
        };
        (answer, term)
    }

    /// Waits until a condition holds, for as long as two minutes.
    pub(super) async fn eventually(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let start = self.now();
        while !holds().await {
            assert!(
                start.elapsed() < PATIENCE,
                "{what}: not within {PATIENCE:?}"
            );
            sleep(self.short / 8).await;
        }
    }
}

/// When a lease or a ttl ends, as far as can be known from outside the store.
///
/// The store counts from some moment between the call and its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    lasts_until: Instant,
    over_from: Instant,
}

impl Term {
    /// Returns whether a call that was answered at this moment was taken while the term lasted.
    pub(super) fn lasted_until(&self, answered: Instant) -> bool {
        answered < self.lasts_until
    }

    /// Returns whether a call that begins at this moment finds the term over.
    pub(super) fn is_over_at(&self, called: Instant) -> bool {
        called >= self.over_from
    }

    /// Waits until the term is over.
    pub(super) async fn over(&self) {
        sleep_until(self.over_from).await;
    }
}

const PATIENCE: Duration = Duration::from_secs(120);
