//! A store around another, whose steps fail when a test says so.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{Call, Fault};
use tower_idempotency::store::{Begin, Claim, Owner, Ownership, Record, TransactionalStore};
use tower_idempotency::{RecordKey, Store, StoreError};

/// Passes steps on, unless the next ones of this kind are to go wrong.
#[derive(Clone)]
pub(crate) struct Fallible<S> {
    inner: S,
    next: Arc<Mutex<HashMap<Call, Fault>>>,
    calls: Arc<Mutex<Vec<Call>>>,
    durable_claims: Arc<AtomicUsize>,
}

impl<S> Fallible<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self {
            inner,
            next: Arc::default(),
            calls: Arc::default(),
            durable_claims: Arc::default(),
        }
    }

    /// Lets the next step of this kind go wrong.
    pub(crate) fn once(&self, call: Call, fault: Fault) {
        self.next.lock().unwrap().insert(call, fault);
    }

    /// Returns the steps so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// Returns how many claims were to be durable.
    pub(crate) fn durable_claims(&self) -> usize {
        self.durable_claims.load(Ordering::SeqCst)
    }

    async fn step<T>(
        &self,
        call: Call,
        step: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.calls.lock().unwrap().push(call);
        let fault = self.next.lock().unwrap().remove(&call);
        match fault {
            None => step.await,
            Some(Fault::Fail(kind)) => Err(kind.into()),
            Some(Fault::FailAfter(kind)) => {
                step.await?;
                Err(kind.into())
            }
            Some(Fault::Hang) => pending().await,
            Some(Fault::HangAfter) => {
                step.await?;
                pending().await
            }
            Some(other) => panic!("{other:?} is not for this store"),
        }
    }
}

impl<S: Store> Store for Fallible<S> {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        let durable = usize::from(claim.is_durable());
        self.durable_claims.fetch_add(durable, Ordering::SeqCst);
        let step = self.inner.begin(key, claim, lease);
        self.step(Call::Begin, step).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        let step = self.inner.complete(key, owner, record, ttl);
        self.step(Call::Complete, step).await
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        let step = self.inner.renew(key, owner, lease);
        self.step(Call::Renew, step).await
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        let step = self.inner.release(key, owner);
        self.step(Call::Release, step).await
    }
}

impl<S: TransactionalStore> TransactionalStore for Fallible<S> {
    type Connection<'c> = S::Connection<'c>;

    async fn complete_in(
        &self,
        connection: &mut Self::Connection<'_>,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        let step = self.inner.complete_in(connection, key, owner, record, ttl);
        self.step(Call::Complete, step).await
    }
}
