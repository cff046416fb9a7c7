//! A store of one's own: a table behind a lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tower_idempotency::store::{
    Begin, Claim, Owner, Ownership, Record, RecordKey, Store, StoreError,
};

struct TableStore(Arc<Mutex<HashMap<RecordKey, Row>>>);

/// A claim, and its record once it is completed. After its end it counts as absent.
struct Row {
    claim: Claim,
    record: Option<Record>,
    end: Instant,
}

impl TableStore {
    /// Must be called on a tokio runtime, where a task removes the rows that have ended.
    fn new() -> Self {
        let store = Self(Arc::default());
        let table = Arc::downgrade(&store.0);
        tokio::spawn(async move {
            while let Some(table) = table.upgrade() {
                table.lock().await.retain(|_, row| Instant::now() < row.end);
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
        });
        store
    }

    /// Changes a row if it is still this owner's claim: the fence.
    async fn if_held(
        &self,
        key: &RecordKey,
        owner: Owner,
        change: impl FnOnce(&mut Row),
    ) -> Ownership {
        let mut table = self.0.lock().await;
        let row = table.get_mut(key).filter(|row| Instant::now() < row.end);
        let row = row.filter(|row| row.record.is_none() && row.claim.owner() == owner);
        row.map(change)
            .map_or(Ownership::Lost, |()| Ownership::Held)
    }
}

type Answer<T> = Result<T, StoreError>;

impl Store for TableStore {
    async fn begin(&self, key: &RecordKey, claim: &Claim, lease: Duration) -> Answer<Begin> {
        let mut table = self.0.lock().await;
        let row = table.get(key).filter(|row| Instant::now() < row.end);
        let (claim, record, end) = match row.map(|row| (row.claim, &row.record)) {
            Some((_, Some(record))) => return Ok(Begin::Completed(record.clone())),
            Some((first, None)) => return Ok(Begin::InProgress(first.fingerprint())),
            None => (*claim, None, Instant::now() + lease),
        };
        table.insert(*key, Row { claim, record, end });
        Ok(Begin::Started)
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Answer<Ownership> {
        let mut table = self.0.lock().await;
        let row = table.get(key).filter(|row| Instant::now() < row.end);
        if row.is_some_and(|row| row.record.is_some() || row.claim.owner() != owner) {
            return Ok(Ownership::Lost);
        }
        // Even if the lease has ended: the handler has run.
        let claim = Claim::new(owner, record.fingerprint());
        let (record, end) = (Some(record.clone()), Instant::now() + ttl);
        table.insert(*key, Row { claim, record, end });
        Ok(Ownership::Held)
    }

    async fn renew(&self, key: &RecordKey, owner: Owner, lease: Duration) -> Answer<Ownership> {
        let change = |row: &mut Row| row.end = Instant::now() + lease;
        Ok(self.if_held(key, owner, change).await)
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Answer<Ownership> {
        let change = |row: &mut Row| row.end = Instant::now();
        Ok(self.if_held(key, owner, change).await)
    }
}

// That was the store. The rest checks it.

use http::{Method, StatusCode, Uri};
use tower_idempotency::store::Fingerprint;
use tower_idempotency::{CallerId, IdempotencyKey};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Time passes only where everybody waits.
    tokio::time::pause();
    let (lease, ttl) = (Duration::from_secs(60), Duration::from_secs(24 * 60 * 60));
    let store = TableStore::new();
    let key = RecordKey::new(&CallerId::new("alice"), &IdempotencyKey::new("order-1")?);
    let request = Fingerprint::new(&Method::POST, &Uri::from_static("/vms"));
    let record = Record::new(request, StatusCode::CREATED, [], Some(b"a VM"));
    let other = Fingerprint::new(&Method::PUT, &Uri::from_static("/vms/1"));
    let first = Claim::new(Owner::new(), request);
    let second = Claim::new(Owner::new(), other);

    // One owner at a time.
    assert!(matches!(
        store.begin(&key, &first, lease).await?,
        Begin::Started
    ));
    assert!(
        matches!(store.begin(&key, &second, lease).await?, Begin::InProgress(of) if of == request)
    );
    // Renewed halfway, a claim lasts beyond its first end, and then it is another's.
    tokio::time::sleep(lease / 2).await;
    assert_eq!(
        store.renew(&key, first.owner(), lease).await?,
        Ownership::Held
    );
    tokio::time::sleep(lease * 3 / 4).await;
    assert!(matches!(
        store.begin(&key, &second, lease).await?,
        Begin::InProgress(_)
    ));
    tokio::time::sleep(lease / 4).await;
    assert_eq!(
        store.renew(&key, first.owner(), lease).await?,
        Ownership::Lost
    );
    assert!(matches!(
        store.begin(&key, &second, lease).await?,
        Begin::Started
    ));
    // The owner that has lost it to another can neither complete it nor release it.
    assert_eq!(
        store.complete(&key, first.owner(), &record, ttl).await?,
        Ownership::Lost
    );
    assert_eq!(store.release(&key, first.owner()).await?, Ownership::Lost);
    // Released, the key is free; completed, it has its record, until the ttl ends.
    assert_eq!(store.release(&key, second.owner()).await?, Ownership::Held);
    assert!(matches!(
        store.begin(&key, &first, lease).await?,
        Begin::Started
    ));
    assert_eq!(
        store.complete(&key, first.owner(), &record, ttl).await?,
        Ownership::Held
    );
    assert_eq!(
        store.renew(&key, first.owner(), lease).await?,
        Ownership::Lost
    );
    tokio::time::sleep(ttl - Duration::from_millis(2)).await;
    assert!(
        matches!(store.begin(&key, &second, lease).await?, Begin::Completed(kept) if kept == record)
    );
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert!(matches!(
        store.begin(&key, &second, lease).await?,
        Begin::Started
    ));
    // Late, but nobody else has claimed the key since.
    tokio::time::sleep(lease * 2).await;
    assert_eq!(
        store.complete(&key, second.owner(), &record, ttl).await?,
        Ownership::Held
    );
    // The room of what has ended is given back, without anybody asking.
    tokio::time::sleep(ttl * 2).await;
    assert!(store.0.lock().await.is_empty());
    println!("The store keeps its promises.");
    Ok(())
}

#[test]
fn the_store_keeps_its_promises() -> Result<(), Box<dyn std::error::Error>> {
    main()
}

/// All of the promises, a test each: `cargo test --example custom_store --features conformance`.
#[cfg(all(test, feature = "conformance"))]
mod conformance {
    use super::TableStore;

    tower_idempotency::conformance_tests! {
        clock: paused,
        store: TableStore::new(),
        room: async |store: &TableStore| store.0.lock().await.len(),
    }
}
