//! A store whose type is chosen at run time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{Begin, Claim, Owner, Ownership, Record, RecordKey, Store, StoreError};

/// Any [`Store`] behind one type, so that an application can choose its store at run time.
///
/// Each call costs one allocation. A clone works on the same store. It is no
/// [`TransactionalStore`](super::TransactionalStore), even if it holds one, since a handler's
/// transaction has the type of one database: where that is chosen at run time, make the layer and the
/// handlers generic over the store.
///
/// # Examples
///
/// ```
/// use tower_idempotency::store::DynStore;
/// use tower_idempotency::{IdempotencyLayer, MemoryStore};
///
/// let store = match std::env::var("IDEMPOTENCY_STORE").as_deref() {
///     Ok("small") => DynStore::new(MemoryStore::new().max_bytes(1024 * 1024)),
///     _ => DynStore::new(MemoryStore::new()),
/// };
/// let layer = IdempotencyLayer::new(store);
/// # let _ = layer;
/// ```
#[derive(Clone)]
pub struct DynStore(Arc<dyn Erased>);

impl DynStore {
    /// Hides the type of a store.
    pub fn new(store: impl Store) -> Self {
        Self(Arc::new(store))
    }
}

impl fmt::Debug for DynStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynStore").finish_non_exhaustive()
    }
}

impl Store for DynStore {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        self.0.begin(key, claim, lease).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        self.0.complete(key, owner, record, ttl).await
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        self.0.renew(key, owner, lease).await
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        self.0.release(key, owner).await
    }
}

/// [`Store`] with boxed futures, so that it can be a trait object.
trait Erased: Send + Sync {
    fn begin<'a>(
        &'a self,
        key: &'a RecordKey,
        claim: &'a Claim,
        lease: Duration,
    ) -> Boxed<'a, Begin>;

    fn complete<'a>(
        &'a self,
        key: &'a RecordKey,
        owner: Owner,
        record: &'a Record,
        ttl: Duration,
    ) -> Boxed<'a, Ownership>;

    fn renew<'a>(
        &'a self,
        key: &'a RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Boxed<'a, Ownership>;

    fn release<'a>(&'a self, key: &'a RecordKey, owner: Owner) -> Boxed<'a, Ownership>;
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

impl<S: Store> Erased for S {
    fn begin<'a>(
        &'a self,
        key: &'a RecordKey,
        claim: &'a Claim,
        lease: Duration,
    ) -> Boxed<'a, Begin> {
        Box::pin(Store::begin(self, key, claim, lease))
    }

    fn complete<'a>(
        &'a self,
        key: &'a RecordKey,
        owner: Owner,
        record: &'a Record,
        ttl: Duration,
    ) -> Boxed<'a, Ownership> {
        Box::pin(Store::complete(self, key, owner, record, ttl))
    }

    fn renew<'a>(
        &'a self,
        key: &'a RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Boxed<'a, Ownership> {
        Box::pin(Store::renew(self, key, owner, lease))
    }

    fn release<'a>(&'a self, key: &'a RecordKey, owner: Owner) -> Boxed<'a, Ownership> {
        Box::pin(Store::release(self, key, owner))
    }
}
