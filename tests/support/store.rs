//! A store whose calls go wrong as somebody says, and a layer on it.

use std::future::{Future, pending};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tower_idempotency::store::{Begin, Claim, Owner, Ownership, Record};
use tower_idempotency::{IdempotencyLayer, MemoryStore, RecordKey, Store, StoreError};

use crate::script::{Fault, Script};
use crate::wait::pend;

/// A memory store whose calls go wrong as its director says. A clone is the same store.
pub struct Scripted<D = Script> {
    pub memory: MemoryStore,
    pub director: Arc<D>,
}

/// Says how the calls of a store go, and hears of them.
pub trait Director: Send + Sync + 'static {
    /// A call is made. How does it go wrong?
    fn fault(&self, step: &Step<'_>) -> Option<Fault>;

    /// The memory that the step is taken in, at that moment: another one has forgotten all.
    fn memory(&self, usual: &MemoryStore) -> MemoryStore {
        usual.clone()
    }

    /// The step was taken, whether or not the layer is told.
    fn taken(&self, step: &Step<'_>, reply: Reply<'_>) {
        let _ = (step, reply);
    }

    /// The layer has its reply, or has given up waiting for it.
    fn replied(&self, step: &Step<'_>, reply: Option<Reply<'_>>) {
        let _ = (step, reply);
    }
}

/// A call of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Begin,
    Complete,
    Renew,
    Release,
}

/// A call of a store with what it is given.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    pub call: Call,
    pub key: &'a RecordKey,
    pub owner: Owner,
    /// Of `begin`.
    pub claim: Option<&'a Claim>,
    /// Of `complete`.
    pub record: Option<&'a Record>,
    /// When the call was made.
    pub at: Instant,
}

/// What a store replies.
#[derive(Clone, Copy, Debug)]
pub enum Reply<'a> {
    Begun(&'a Begin),
    Held(Ownership),
    Failed(&'a StoreError),
}

/// A layer with a scripted store and short times.
pub fn scripted() -> (IdempotencyLayer<Scripted>, Scripted) {
    let store = Scripted::default();
    let layer = IdempotencyLayer::new(store.clone()).lease(LEASE);
    (layer.store_timeout(STORE_TIMEOUT), store)
}

pub const LEASE: Duration = Duration::from_secs(6);
pub const STORE_TIMEOUT: Duration = Duration::from_millis(100);

impl<D: Director> Scripted<D> {
    pub fn new(director: D) -> Self {
        Self {
            memory: MemoryStore::new(),
            director: Arc::new(director),
        }
    }

    fn memory(&self) -> MemoryStore {
        self.director.memory(&self.memory)
    }

    /// Takes a step, or not, as the director says.
    async fn step<T: Replied>(
        &self,
        step: Step<'_>,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let fault = self.director.fault(&step);
        let waiting = Waiting(&*self.director, step);
        let work = async {
            let taken = work.await;
            self.director.taken(&step, Reply::of(&taken));
            taken
        };
        let reply = match fault {
            None => work.await,
            Some(Fault::Fail(kind)) => Err(StoreError::new(kind, "connection refused")),
            Some(Fault::Hang) => pending().await,
            Some(Fault::FailAfter(kind)) => {
                work.await?;
                Err(kind.into())
            }
            Some(Fault::HangAfter) => {
                work.await?;
                pending().await
            }
            Some(Fault::Lie) => Ok(T::lie()),
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
        };
        std::mem::forget(waiting);
        self.director.replied(&step, Some(Reply::of(&reply)));
        reply
    }
}

impl<D> Clone for Scripted<D> {
    fn clone(&self) -> Self {
        Self {
            memory: self.memory.clone(),
            director: Arc::clone(&self.director),
        }
    }
}

impl Default for Scripted {
    fn default() -> Self {
        Self::new(Script::default())
    }
}

impl<D: Director> Store for Scripted<D> {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        let step = Step {
            claim: Some(claim),
            ..Step::new(Call::Begin, key, claim.owner())
        };
        let work = async { self.memory().begin(key, claim, lease).await };
        self.step(step, work).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        let step = Step {
            record: Some(record),
            ..Step::new(Call::Complete, key, owner)
        };
        let work = async { self.memory().complete(key, owner, record, ttl).await };
        self.step(step, work).await
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        let work = async { self.memory().renew(key, owner, lease).await };
        self.step(Step::new(Call::Renew, key, owner), work).await
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        let work = async { self.memory().release(key, owner).await };
        self.step(Step::new(Call::Release, key, owner), work).await
    }
}

impl<'a> Step<'a> {
    fn new(call: Call, key: &'a RecordKey, owner: Owner) -> Self {
        Self {
            call,
            key,
            owner,
            claim: None,
            record: None,
            at: Instant::now(),
        }
    }
}

impl<'a> Reply<'a> {
    fn of<T: Replied>(result: &'a Result<T, StoreError>) -> Self {
        result.as_ref().map_or_else(Self::Failed, T::reply)
    }

    /// Returns whether the caller has the claim, or had it and has settled it.
    pub fn is_held(&self) -> bool {
        matches!(
            self,
            Self::Begun(Begin::Started) | Self::Held(Ownership::Held)
        )
    }
}

/// What a call that did not fail is replied to with.
trait Replied {
    fn reply(&self) -> Reply<'_>;
    /// The reply to a step that is said to be taken, but is not.
    fn lie() -> Self;
}

impl Replied for Begin {
    fn reply(&self) -> Reply<'_> {
        Reply::Begun(self)
    }

    fn lie() -> Self {
        Self::Started
    }
}

impl Replied for Ownership {
    fn reply(&self) -> Reply<'_> {
        Reply::Held(*self)
    }

    fn lie() -> Self {
        Self::Held
    }
}

/// Says that the layer has given up waiting, when it drops the call.
struct Waiting<'a, D: Director>(&'a D, Step<'a>);

impl<D: Director> Drop for Waiting<'_, D> {
    fn drop(&mut self) {
        self.0.replied(&self.1, None);
    }
}
