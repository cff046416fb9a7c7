//! What the cases share: transactions whose answers are checked.

use std::ops::Deref;
use std::time::Duration;

use super::super::bench::{Bench, LONG, answer, record_of};
use super::super::clock::Clock;
use super::database::Database;
use crate::store::{Claim, Owner, Ownership, Record, RecordKey, StoreError, TransactionalStore};

/// A store under test in its database.
pub(super) struct TransactionBench<D: Database> {
    pub(super) database: D,
    bench: Bench<D::Store>,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Commit,
    RollBack,
}

impl End {
    pub(super) const BOTH: [Self; 2] = [Self::Commit, Self::RollBack];
}

impl<D: Database> TransactionBench<D> {
    pub(super) fn new(database: D, clock: Clock) -> Self {
        let bench = Bench::new(database.store(), clock);
        Self { database, bench }
    }

    pub(super) async fn try_complete_in(
        &self,
        transaction: &mut D::Transaction<'_>,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        let connection = D::connection(transaction);
        let store = &self.bench.store;
        store.complete_in(connection, key, owner, record, ttl).await
    }

    pub(super) async fn complete_in(
        &self,
        transaction: &mut D::Transaction<'_>,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
    ) -> Ownership {
        let completed = self.try_complete_in(transaction, key, owner, record, LONG);
        answer("complete_in", completed.await)
    }

    pub(super) async fn must_complete_in(
        &self,
        transaction: &mut D::Transaction<'_>,
        key: &RecordKey,
        claim: &Claim,
        what: &str,
    ) -> Record {
        let record = record_of(claim);
        let held = self.complete_in(transaction, key, claim.owner(), &record);
        assert_eq!(held.await, Ownership::Held, "{what}: complete_in");
        record
    }

    pub(super) async fn must_lose_in(
        &self,
        transaction: &mut D::Transaction<'_>,
        key: &RecordKey,
        claim: &Claim,
        what: &str,
    ) {
        // Of another body than any record that is rightly there.
        let record = record_of(claim);
        let held = self.complete_in(transaction, key, claim.owner(), &record);
        assert_eq!(held.await, Ownership::Lost, "{what}: complete_in");
    }

    pub(super) async fn must_commit(&self, transaction: D::Transaction<'_>, what: &str) {
        let is_committed = D::commit(transaction).await;
        assert!(is_committed, "{what}: the transaction can't be committed");
    }

    pub(super) async fn must_end_by(&self, transaction: D::Transaction<'_>, end: End, what: &str) {
        match end {
            End::Commit => self.must_commit(transaction, what).await,
            End::RollBack => D::roll_back(transaction).await,
        }
    }

    /// Keeps a record in a transaction of its own, which is committed.
    pub(super) async fn must_keep(&self, key: &RecordKey, claim: &Claim, what: &str) {
        let mut session = self.database.connect().await;
        let mut transaction = self.database.begin(&mut session).await;
        let record = self.must_complete_in(&mut transaction, key, claim, what);
        let record = record.await;
        self.must_commit(transaction, what).await;
        self.must_be_completed(key, &record, what).await;
    }
}

impl<D: Database> Deref for TransactionBench<D> {
    type Target = Bench<D::Store>;

    fn deref(&self) -> &Self::Target {
        &self.bench
    }
}
