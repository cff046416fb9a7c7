//! A store that says what it does, for the figures.

use std::time::Duration;

use tower_idempotency::store::{
    Begin, Claim, Owner, Ownership, Record, RecordKey, Store, StoreError, TransactionalStore,
};

use super::instance::say;

/// A store of a process, whose parent hears of what went wrong.
pub(crate) struct Watched<S>(pub(crate) S);

/// Says that a claim has failed, or nobody has waited for it, unless it is known to be made.
struct Unclaimed(bool);

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if self.0 {
            say("unclaimed");
        }
    }
}

impl<S: Store> Store for Watched<S> {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        let mut unclaimed = Unclaimed(true);
        let begun = self.0.begin(key, claim, lease).await;
        unclaimed.0 = begun.is_err();
        begun
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

impl<S: TransactionalStore> TransactionalStore for Watched<S> {
    type Connection<'c> = S::Connection<'c>;

    async fn complete_in(
        &self,
        connection: &mut Self::Connection<'_>,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        let completed = self
            .0
            .complete_in(connection, key, owner, record, ttl)
            .await;
        if matches!(completed, Ok(Ownership::Lost)) {
            say("fenced");
        }
        completed
    }
}
