//! The lease of a claim: what speaks to the store for it, renews it, and settles it.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::transaction::Written;
use crate::config::Setup;
use crate::runtime::{Background, poll_once};
use crate::store::{
    Begin, Claim, Fingerprint, Owner, Ownership, Record, RecordKey, Store, StoreError,
    StoreErrorKind,
};
use crate::trace;

/// Whoever speaks to the store for a claim: the request, or what is left of it.
pub(crate) struct Lease<St> {
    pub(crate) setup: Arc<Setup<St>>,
    pub(crate) background: Background,
    pub(crate) key: RecordKey,
    pub(crate) owner: Owner,
    /// Where the handler may keep its response by itself: whether it has.
    pub(crate) written: Option<Arc<Written>>,
}

impl<St: Store> Lease<St> {
    pub(crate) async fn begin(&self, fingerprint: Fingerprint) -> Result<Begin, StoreError> {
        let Setup { store, config, .. } = &*self.setup;
        let claim = Claim::new(self.owner, fingerprint).durable(!config.transactional);
        store.begin(&self.key, &claim, config.lease).await
    }

    pub(crate) async fn settle(&self, ending: &Ending) -> Result<Ownership, StoreError> {
        let store = &self.setup.store;
        match ending {
            Ending::Complete(record, ttl) => {
                store.complete(&self.key, self.owner, record, *ttl).await
            }
            Ending::Release => store.release(&self.key, self.owner).await,
        }
    }

    /// Hears how the claim was settled: notes it for the log, and wakes whoever waits for that.
    pub(crate) fn settled(&self, ending: &Ending, settled: &Result<Ownership, StoreError>) {
        self.report(ending.step(), settled);
        if let Ok(ownership) = settled {
            self.wake(ending, *ownership);
        }
    }

    /// Wakes whoever waits for the end of this claim: one if the key is free, all if it has a record.
    pub(crate) fn wake(&self, ending: &Ending, ownership: Ownership) {
        let waiters = &self.setup.waiters;
        match (ending, ownership) {
            (Ending::Complete(..), _) => waiters.wake_all(&self.key),
            (Ending::Release, Ownership::Held) => waiters.wake_one(&self.key),
            // The handler has kept its response by itself.
            (Ending::Release, Ownership::Lost) if self.may_be_written() => {
                waiters.wake_all(&self.key);
            }
            (Ending::Release, Ownership::Lost) => {}
        }
    }

    /// Runs a future and renews the lease meanwhile. No timer is made if it is ready at once.
    pub(crate) fn during<F: Future>(&self, future: Pin<&mut F>) -> impl Future<Output = F::Output> {
        self.during_or(future, || {})
    }

    /// Runs a future and renews the lease meanwhile. If it is not ready at once, this is called
    /// first.
    pub(crate) async fn during_or<F: Future>(
        &self,
        mut future: Pin<&mut F>,
        is_pending: impl FnOnce(),
    ) -> F::Output {
        if let Poll::Ready(output) = poll_once(future.as_mut()).await {
            return output;
        }
        is_pending();
        // Boxed, so that a request which does not wait is not the larger for it.
        let mut renewal = Box::pin(self.renew_again_and_again());
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(output);
            }
            renewal.as_mut().poll(context).map(|never| match never {})
        })
        .await
    }

    /// Tries to settle until the store has answered or a lease has passed.
    pub(crate) async fn settle_later(self, ending: Ending) {
        let _ = self.settle_patiently(&ending).await;
    }

    /// Tries to settle until the store has answered, which is returned, or a lease has passed.
    pub(crate) async fn settle_patiently(&self, ending: &Ending) -> Option<Ownership> {
        let config = &self.setup.config;
        let start = Instant::now();
        let mut pause = config.lease / 64;
        loop {
            let settled = self.within(config.store_timeout, self.settle(ending));
            let settled = self.during(pin!(settled)).await;
            self.settled(ending, &settled);
            match settled {
                Ok(ownership) => return Some(ownership),
                Err(error) if !error.is_transient() => return None,
                Err(_) if start.elapsed() + pause >= config.lease => return None,
                Err(_) => {}
            }
            self.background.sleep(pause)?.await;
            pause = (pause * 2).min(config.lease / 4);
            if self.may_be_written() {
                // It can't end sooner than the transaction, which has it locked.
                continue;
            }
            // A claim that has ended needs no release. A record is kept even then, unless the key
            // is another's by now.
            let renewed = self.renew().await;
            if let (Ok(Ownership::Lost), Ending::Release) = (renewed, ending) {
                return Some(Ownership::Lost);
            }
        }
    }

    /// Renews the lease at a third of its length, for as long as this is polled.
    async fn renew_again_and_again(&self) -> Infallible {
        let lease = self.setup.config.lease;
        // Sooner at first: some of the lease is over by now, since it runs from before the store's
        // reply, or from a renewal before a hand-over.
        let mut pause = lease / 12;
        while let Some(sleep) = self.background.sleep(pause) {
            sleep.await;
            if self.may_be_written() {
                // The row is locked as long as the transaction is open, so this may fail, and matters
                // only if that was rolled back.
                let _ = self.try_to_renew().await;
                pause = lease / 3;
                continue;
            }
            pause = match self.renew().await {
                Ok(Ownership::Held) => lease / 3,
                Ok(Ownership::Lost) => {
                    trace::lease_lost(&self.key);
                    break;
                }
                // Sooner again, while there is a lease to renew.
                Err(_) => lease / 12,
            };
        }
        pending().await
    }

    /// Returns whether the handler may have written the record in a transaction of its own.
    pub(crate) fn may_be_written(&self) -> bool {
        self.written
            .as_ref()
            .is_some_and(|written| written.may_be())
    }

    async fn renew(&self) -> Result<Ownership, StoreError> {
        let renewed = self.try_to_renew().await;
        self.report("renew", &renewed);
        renewed
    }

    async fn try_to_renew(&self) -> Result<Ownership, StoreError> {
        let Setup { store, config, .. } = &*self.setup;
        // Not longer than until the next renewal, also where the lease is shorter than the patience.
        let limit = config.store_timeout.min(config.lease / 3);
        let renewed = store.renew(&self.key, self.owner, config.lease);
        self.within(limit, renewed).await
    }

    /// Waits for a step of the store, at most for `limit`.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        step: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let taken = self.background.within(limit, Caught::new(step)).await;
        taken.unwrap_or_else(|| Err(StoreErrorKind::Timeout.into()))
    }

    /// Notes how a step of the store ended, for the log.
    pub(crate) fn report<T>(&self, step: &'static str, taken: &Result<T, StoreError>) {
        let outage = &self.setup.outage;
        match taken {
            Ok(_) => outage.has_answered(),
            Err(error) => outage.has_failed(step, &self.key, error),
        }
    }
}

// By hand, since a derive would ask the store to be `Clone`.
impl<St> Clone for Lease<St> {
    fn clone(&self) -> Self {
        Self {
            setup: Arc::clone(&self.setup),
            background: self.background.clone(),
            key: self.key,
            owner: self.owner,
            written: self.written.clone(),
        }
    }
}

/// How a claim ends.
#[derive(Clone)]
pub(crate) enum Ending {
    /// With a record, for this long.
    Complete(Record, Duration),
    Release,
}

impl Ending {
    pub(crate) fn step(&self) -> &'static str {
        match self {
            Self::Complete(..) => "complete",
            Self::Release => "release",
        }
    }
}

pin_project! {
    /// Takes a panic of the store for its failure: a handler that has run must keep its response.
    pub(crate) struct Caught<F> {
        #[pin]
        step: F,
    }
}

impl<F> Caught<F> {
    pub(crate) fn new(step: F) -> Self {
        Self { step }
    }
}

impl<F, T> Future for Caught<F>
where
    F: Future<Output = Result<T, StoreError>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let step = self.project().step;
        let polled = catch_unwind(AssertUnwindSafe(|| step.poll(context)));
        polled.unwrap_or_else(|_| {
            trace::store_panicked();
            let error = StoreError::new(StoreErrorKind::Unavailable, "the store panicked");
            Poll::Ready(Err(error))
        })
    }
}
