//! A memory store that fails, hangs, lies or forgets on command, and reports to the world what it
//! did.

use std::future::{Future, pending};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tower_idempotency::store::{Begin, Claim, Owner, Ownership, Record, StoreErrorKind};
use tower_idempotency::{MemoryStore, RecordKey, Store, StoreError};

use crate::action::{Fault, Step};
use crate::claim::Told;
use crate::world::World;

pub(crate) struct FaultyStore {
    world: Arc<World>,
    inner: Mutex<MemoryStore>,
}

impl FaultyStore {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self {
            world,
            inner: Mutex::new(MemoryStore::new()),
        }
    }

    pub(crate) fn forget(&self) {
        *self.inner.lock().unwrap() = MemoryStore::new();
        self.world.forgot();
    }

    pub(crate) fn inner(&self) -> MemoryStore {
        self.inner.lock().unwrap().clone()
    }

    /// Takes a step, or not, as the fault says.
    async fn take<T>(
        &self,
        fault: Option<Fault>,
        step: impl Future<Output = Result<T, StoreError>>,
        lie: T,
    ) -> Result<T, StoreError> {
        match fault {
            None => step.await,
            Some(Fault::FailBefore(kind)) => Err(kind.into()),
            Some(Fault::FailAfter) => {
                step.await?;
                Err(StoreErrorKind::Unavailable.into())
            }
            Some(Fault::HangBefore) => pending().await,
            Some(Fault::HangAfter) => {
                step.await?;
                pending().await
            }
            Some(Fault::Lie) => Ok(lie),
            Some(Fault::Slow(millis)) => {
                tokio::time::sleep(Duration::from_millis(millis.into())).await;
                step.await
            }
        }
    }
}

impl Store for FaultyStore {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        let mut telling = Telling {
            world: &self.world,
            key: *key,
            owner: claim.owner(),
            told: Told::Failure,
        };
        self.world.asked(*key, claim.owner());
        let fault = self.world.next_fault(Step::Begin, claim.owner());
        let step = async {
            let begun = self.inner().begin(key, claim, lease).await;
            if matches!(begun, Ok(Begin::Started)) {
                self.world.claimed(claim.owner());
            }
            begun
        };
        let begun = self.take(fault, step, Begin::Started).await;
        telling.told = match &begun {
            Ok(Begin::Started) => Told::Started,
            Ok(Begin::InProgress(fingerprint)) => Told::InProgress(*fingerprint),
            Ok(Begin::Completed(record)) => Told::Completed(record.clone()),
            Ok(found) => panic!("{found:?} is no answer of a memory store"),
            Err(_) => Told::Failure,
        };
        begun
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        let fault = self.world.next_fault(Step::Complete, owner);
        let step = async {
            let held = self.inner().complete(key, owner, record, ttl).await;
            match held {
                Ok(Ownership::Held) => self.world.completed(owner, record),
                _ => self.world.lost(owner, Step::Complete),
            }
            // A claim without a lease finds out whether anybody else has the key.
            let look = Claim::new(Owner::new(), record.fingerprint());
            let look = self.inner().begin(key, &look, Duration::ZERO).await;
            if matches!((&held, look), (Ok(Ownership::Lost), Ok(Begin::Started))) {
                let rule = "a completion was refused although nobody else had the key";
                self.world.violated(rule.to_owned());
            }
            held
        };
        self.take(fault, step, Ownership::Held).await
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        let fault = self.world.next_fault(Step::Renew, owner);
        let step = async {
            let held = self.inner().renew(key, owner, lease).await;
            if !matches!(held, Ok(Ownership::Held)) {
                self.world.lost(owner, Step::Renew);
            }
            held
        };
        self.take(fault, step, Ownership::Held).await
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        let fault = self.world.next_fault(Step::Release, owner);
        let step = async {
            let held = self.inner().release(key, owner).await;
            match held {
                Ok(Ownership::Held) => self.world.released(owner),
                _ => self.world.lost(owner, Step::Release),
            }
            held
        };
        self.take(fault, step, Ownership::Held).await
    }
}

/// Reports to the world what the layer was told, at the moment when the layer learns it, or when it
/// stops waiting and drops the call.
struct Telling<'a> {
    world: &'a World,
    key: RecordKey,
    owner: Owner,
    told: Told,
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.world.told(self.key, self.owner, self.told.clone());
    }
}
