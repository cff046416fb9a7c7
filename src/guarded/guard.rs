//! The guard of a request: claims its key, and settles the claim exactly once.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::lease::{Caught, Ending, Lease};
use super::transaction::Written;
use crate::config::{Config, Setup};
use crate::outcome::{NotKept, Outcome};
use crate::runtime::{Background, poll_once};
use crate::store::{
    Begin, Fingerprint, Owner, Ownership, RecordKey, Store, StoreError, StoreErrorKind,
};

/// A claim of a key, from before it is made to the moment it is settled.
///
/// Dropped before its end is known, it gives the key up: so does a panic of the handler, or its
/// error.
pub(crate) struct Guard<St: Store> {
    lease: Lease<St>,
    patience: Patience,
    state: State,
    /// How the claim ends if the guard is dropped, where it is not given up. Boxed, so that a request
    /// which does not wait is not the larger for it.
    if_dropped: Option<Box<Ending>>,
}

/// How long a request will still wait for the store, over all its steps.
struct Patience(Duration);

impl Patience {
    async fn wait<T, St: Store>(
        &mut self,
        lease: &Lease<St>,
        mut step: Pin<&mut impl Future<Output = Result<T, StoreError>>>,
    ) -> Result<T, StoreError> {
        if let Poll::Ready(result) = poll_once(step.as_mut()).await {
            return result;
        }
        let start = Instant::now();
        // Boxed, so that a request which does not wait is not the larger for it.
        let result = Box::pin(lease.within(self.0, step)).await;
        self.0 = self.0.saturating_sub(start.elapsed());
        result
    }
}

/// What is known of the claim.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The key is not ours, or not any more: there is nothing to settle.
    Closed,
    /// The store refused the claim: there is nothing to settle.
    Refused(StoreErrorKind),
    /// The key is ours.
    Held,
    /// `begin` failed, and the key may be ours or not: it is settled in the background, so that the
    /// request does not wait for the store once more.
    Unknown(StoreErrorKind),
}

/// What came of ending a claim.
#[must_use]
pub(crate) enum Settled {
    Done,
    /// The record was kept, but there was no room for its body.
    DoneWithoutBody,
    /// The key is another's, or has a record.
    Lost,
    /// The store failed; it is tried again in the background for as long as a lease.
    Failed(StoreErrorKind),
}

impl<St: Store> Guard<St> {
    pub(crate) fn new(setup: Arc<Setup<St>>, background: Background, key: RecordKey) -> Self {
        Self {
            patience: Patience(setup.config.store_timeout),
            lease: Lease {
                setup,
                background,
                key,
                owner: Owner::new(),
                written: None,
            },
            state: State::Closed,
            if_dropped: None,
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.lease.setup.config
    }

    pub(crate) fn background(&self) -> &Background {
        &self.lease.background
    }

    pub(crate) fn key(&self) -> &RecordKey {
        &self.lease.key
    }

    /// Claims the key, or returns what is there.
    pub(crate) async fn begin(&mut self, fingerprint: Fingerprint) -> Result<Begin, StoreError> {
        // Until the answer is there, the key may be ours.
        self.state = State::Unknown(StoreErrorKind::Timeout);
        let mut begin = pin!(Caught::new(self.lease.begin(fingerprint)));
        let begun = self.patience.wait(&self.lease, begin.as_mut()).await;
        self.lease.report("begin", &begun);
        self.state = match &begun {
            Ok(Begin::Started) => {
                self.lease.setup.outage.has_claimed();
                State::Held
            }
            Ok(Begin::InProgress(_) | Begin::Completed(_)) => State::Closed,
            Err(error) => match error.kind() {
                kind if kind.may_have_been_taken() => State::Unknown(kind),
                kind => State::Refused(kind),
            },
        };
        begun
    }

    /// Claims the key once more, or returns what is there by now. Each time the store has as long to
    /// answer as for a new request.
    pub(crate) async fn begin_again(
        &mut self,
        fingerprint: Fingerprint,
    ) -> Result<Begin, StoreError> {
        self.patience = Patience(self.config().store_timeout);
        if self.may_be_held() {
            // The last reply was lost, and the claim may have been made.
            let _ = self.try_to_settle(&Ending::Release).await?;
            // Nothing that still arrives for the old owner may touch a new claim.
            self.lease.owner = Owner::new();
        }
        self.begin(fingerprint).await
    }

    /// Runs a future and renews the lease meanwhile, if there may be one.
    pub(crate) async fn during<F: Future>(&self, future: Pin<&mut F>) -> F::Output {
        if self.may_be_held() {
            self.lease.during(future).await
        } else {
            future.await
        }
    }

    /// Runs a future and renews the lease meanwhile. If it is not ready at once and the guard is
    /// dropped from then on, the claim ends like this.
    pub(crate) fn during_or<F: Future>(
        &mut self,
        future: Pin<&mut F>,
        ending: impl FnOnce() -> Ending,
    ) -> impl Future<Output = F::Output> {
        let if_dropped = &mut self.if_dropped;
        let is_pending = || *if_dropped = Some(Box::new(ending()));
        self.lease.during_or(future, is_pending)
    }

    /// Returns whether there is a claim to settle.
    pub(crate) fn may_be_held(&self) -> bool {
        matches!(self.state, State::Held | State::Unknown(_))
    }

    /// Returns how the store failed to claim the key, if it did.
    pub(crate) fn failure(&self) -> Option<StoreErrorKind> {
        match self.state {
            State::Refused(kind) | State::Unknown(kind) => Some(kind),
            State::Closed | State::Held => None,
        }
    }

    pub(crate) fn lease(&self) -> &Lease<St> {
        &self.lease
    }

    /// Shares the lease with the handler, which says there what it has kept.
    pub(crate) fn share(&mut self, written: Arc<Written>) -> Lease<St> {
        self.lease.written = Some(written);
        self.lease.clone()
    }

    /// Asks the store something, for as long as the request still waits for the store.
    pub(crate) async fn ask<T>(
        &mut self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let question = pin!(Caught::new(question));
        let answer = self.patience.wait(&self.lease, question).await;
        self.lease.report("find", &answer);
        answer
    }

    /// Gives the claim up in the background.
    pub(crate) fn release_later(&mut self) {
        self.state = State::Closed;
        let release = self.lease.clone().settle_later(Ending::Release);
        self.lease.background.write_later(release);
    }

    /// Leaves the claim to the end of its lease.
    pub(crate) fn abandon(&mut self) {
        self.state = State::Closed;
    }

    /// Ends the claim, once. If it is dropped meanwhile, the claim ends the same way in the
    /// background.
    pub(crate) async fn settle(&mut self, ending: Ending) -> Settled {
        match self.state {
            State::Held => {}
            State::Closed => return Settled::Lost,
            State::Refused(kind) => return Settled::Failed(kind),
            State::Unknown(kind) => {
                self.state = State::Closed;
                let later = self.lease.clone().settle_later(ending);
                self.lease.background.write(later);
                return Settled::Failed(kind);
            }
        }
        match self.try_to_settle(&ending).await {
            Ok(ownership) => ownership.into(),
            // Boxed, so that a request whose store works is not the larger for it.
            Err(error) => Box::pin(self.settle_after(error, ending)).await,
        }
    }

    /// Goes on when the store has failed to end the claim: a store that is full may still have room
    /// for the record without its body; otherwise it is tried again in the background.
    async fn settle_after(&mut self, mut error: StoreError, mut ending: Ending) -> Settled {
        if let (Ending::Complete(record, _), StoreErrorKind::Full) = (&mut ending, error.kind()) {
            *record = record.without_body();
            error = match self.try_to_settle(&ending).await {
                Ok(Ownership::Held) => return Settled::DoneWithoutBody,
                Ok(Ownership::Lost) => return Settled::Lost,
                Err(error) => error,
            };
        }
        self.state = State::Closed;
        let later = self.lease.clone().settle_later(ending);
        self.lease.background.write_later(later);
        Settled::Failed(error.kind())
    }

    async fn try_to_settle(&mut self, ending: &Ending) -> Result<Ownership, StoreError> {
        let Self {
            lease,
            patience,
            state,
            if_dropped,
        } = self;
        let mut step = pin!(Caught::new(lease.settle(ending)));
        let mut settled = pin!(patience.wait(lease, step.as_mut()));
        let is_pending = || *if_dropped = Some(Box::new(ending.clone()));
        // A store that hangs may do so for longer than the rest of the lease.
        let settled = lease.during_or(settled.as_mut(), is_pending).await;
        lease.settled(ending, &settled);
        if settled.is_ok() {
            *state = State::Closed;
        }
        settled
    }
}

impl Settled {
    /// Returns the outcome of a response: this one, if the store did as it was asked.
    pub(crate) fn outcome(self, done: Outcome) -> Outcome {
        match self {
            Self::Done => done,
            Self::DoneWithoutBody => Outcome::KeptWithoutBody,
            Self::Lost => Outcome::NotKept(NotKept::LeaseLost),
            Self::Failed(kind) => Outcome::StoreFailed(kind),
        }
    }
}

impl From<Ownership> for Settled {
    fn from(ownership: Ownership) -> Self {
        match ownership {
            Ownership::Held => Self::Done,
            Ownership::Lost => Self::Lost,
        }
    }
}

impl<St: Store> Drop for Guard<St> {
    fn drop(&mut self) {
        if self.may_be_held() {
            // A handler or a body that panics has no answer to keep.
            let ending = self.if_dropped.take();
            let ending = ending.filter(|_| !std::thread::panicking());
            let ending = ending.map_or(Ending::Release, |ending| *ending);
            let settled = self.lease.clone().settle_later(ending);
            self.lease.background.write(settled);
        }
    }
}
