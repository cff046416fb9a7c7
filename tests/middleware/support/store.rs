//! A store that follows a script, and a layer on it.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, pending};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tower_idempotency::store::{Begin, Claim, Owner, Ownership, Record, StoreErrorKind};
use tower_idempotency::{IdempotencyLayer, MemoryStore, RecordKey, Store, StoreError};

use super::pend;

/// A layer with a scripted store and short times.
pub(crate) fn scripted() -> (IdempotencyLayer<Scripted>, Scripted) {
    let store = Scripted::default();
    let layer = IdempotencyLayer::new(store.clone()).lease(LEASE);
    (layer.store_timeout(STORE_TIMEOUT), store)
}

pub(crate) const LEASE: Duration = Duration::from_secs(6);
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_millis(100);

/// A call of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Begin,
    Complete,
    Renew,
    Release,
}

/// How a call goes wrong, or slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The step is not taken.
    Fail(StoreErrorKind),
    Hang,
    /// The step is taken, but its reply is lost.
    FailAfter(StoreErrorKind),
    HangAfter,
    /// The step is taken after being pending so many times.
    Pend(usize),
    /// The step is taken after this time.
    Late(Duration),
    /// The step is taken, but its reply comes after this time.
    LateReply(Duration),
}

/// A memory store whose calls can be told to go wrong. A clone is the same store.
#[derive(Clone, Default)]
pub(crate) struct Scripted {
    pub(crate) memory: MemoryStore,
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    calls: Vec<Call>,
    next: HashMap<Call, VecDeque<Fault>>,
    always: HashMap<Call, Fault>,
}

impl Scripted {
    /// Lets the next call that is not spoken for go wrong.
    pub(crate) fn once(&self, call: Call, fault: Fault) {
        let mut script = self.script.lock().unwrap();
        script.next.entry(call).or_default().push_back(fault);
    }

    /// Lets all calls go wrong that are not spoken for.
    pub(crate) fn always(&self, call: Call, fault: Fault) {
        self.script.lock().unwrap().always.insert(call, fault);
    }

    /// Lets all calls go well from now on.
    pub(crate) fn heal(&self) {
        let mut script = self.script.lock().unwrap();
        script.next.clear();
        script.always.clear();
    }

    /// Returns the calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.script.lock().unwrap().calls.clone()
    }

    async fn step<T>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let fault = {
            let mut script = self.script.lock().unwrap();
            script.calls.push(call);
            let next = script.next.get_mut(&call).and_then(VecDeque::pop_front);
            next.or_else(|| script.always.get(&call).copied())
        };
        match fault {
            None => work.await,
            Some(Fault::Fail(kind)) => Err(kind.into()),
            Some(Fault::Hang) => pending().await,
            Some(Fault::FailAfter(kind)) => {
                work.await?;
                Err(kind.into())
            }
            Some(Fault::HangAfter) => {
                work.await?;
                pending().await
            }
            Some(Fault::Late(time)) => {
                tokio::time::sleep(time).await;
                work.await
            }
            Some(Fault::LateReply(time)) => {
                let taken = work.await;
                tokio::time::sleep(time).await;
                taken
            }
            Some(Fault::Pend(times)) => {
                pend(times).await;
                work.await
            }
        }
    }
}

impl Store for Scripted {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        self.step(Call::Begin, self.memory.begin(key, claim, lease))
            .await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        self.step(
            Call::Complete,
            self.memory.complete(key, owner, record, ttl),
        )
        .await
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        self.step(Call::Renew, self.memory.renew(key, owner, lease))
            .await
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        self.step(Call::Release, self.memory.release(key, owner))
            .await
    }
}
