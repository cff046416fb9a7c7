//! The transactions of the table.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::Instant;
use tower_idempotency::store::conformance::Database;
use tower_idempotency::store::{
    Owner, Ownership, Record, RecordKey, StoreError, TransactionalStore,
};

use super::table::{Fault, Row, Table};

/// A transaction. Dropped, it is rolled back.
pub(super) struct Transaction {
    table: Table,
    number: u64,
    began: Instant,
    /// What was committed by then.
    view: HashMap<RecordKey, Row>,
    changed: HashMap<RecordKey, Row>,
}

impl Table {
    /// Begins a transaction.
    fn transaction(&self) -> Transaction {
        let mut rows = self.rows.lock().unwrap();
        rows.transactions += 1;
        Transaction {
            table: self.clone(),
            number: rows.transactions,
            began: Instant::now(),
            view: rows.committed.clone(),
            changed: HashMap::new(),
        }
    }
}

impl TransactionalStore for Table {
    type Connection<'c> = Transaction;

    async fn complete_in(
        &self,
        transaction: &mut Self::Connection<'_>,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        let number = Some(transaction.number);
        let completed = self.when_free(key, number, Fault::TransactionDoesNotWait, |rows| {
            let mut now = Instant::now();
            let view = match self.fault {
                Fault::ViewOfTheBegin => &transaction.view,
                _ => &rows.committed,
            };
            let row = match transaction.changed.get(key) {
                Some(_) if self.is(Fault::OverwritesTheRecordOfItsTransaction) => None,
                Some(row) => Some(row),
                None => view.get(key),
            };
            let is_ended_by = match self.fault {
                Fault::EndsByTheTimeOfTheBegin => transaction.began,
                _ => now,
            };
            if !self.may_complete(row, owner, record, is_ended_by) {
                return Ownership::Lost;
            }
            if self.is(Fault::TtlFromTheBegin) {
                now = transaction.began;
            }
            let record = match self.fault {
                Fault::CutsABody => &cut(record),
                _ => record,
            };
            let row = Row::of(owner, record, ttl, now);
            if self.is(Fault::ClaimFindsWhatIsNotCommitted) {
                rows.uncommitted.insert(*key, row.clone());
            }
            if self.is(Fault::IgnoresTheTransaction) {
                rows.committed.insert(*key, row);
                return Ownership::Held;
            }
            rows.locked.insert(*key, transaction.number);
            transaction.changed.insert(*key, row);
            Ownership::Held
        });
        let completed = completed.await;
        if self.is(Fault::CommitsByItself) {
            transaction.end(true);
        }
        Ok(completed)
    }
}

impl Transaction {
    fn end(&mut self, is_committed: bool) {
        let Self { table, number, .. } = self;
        let mut rows = table.rows.lock().unwrap();
        rows.locked.retain(|_, holder| holder != number);
        for (key, mut row) in self.changed.drain() {
            rows.uncommitted.remove(&key);
            if table.is(Fault::TtlFromTheCommit) {
                row.ends = Instant::now() + row.ttl;
            }
            if is_committed && !table.is(Fault::KeepsNothing) {
                rows.committed.insert(key, row);
            } else if !is_committed && table.is(Fault::RollBackFreesTheKey) {
                rows.committed.remove(&key);
            }
        }
        drop(rows);
        table.ended.notify_waiters();
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl Database for Table {
    type Store = Self;
    type Session = ();
    type Transaction<'s> = Transaction;
    const HAS_ONE_WRITER: bool = false;

    fn store(&self) -> Self {
        self.clone()
    }

    async fn connect(&self) {}

    async fn begin(&self, (): &mut ()) -> Transaction {
        self.transaction()
    }

    fn connection<'t, 's: 't>(transaction: &'t mut Transaction) -> &'t mut Transaction {
        transaction
    }

    async fn commit(mut transaction: Self::Transaction<'_>) -> bool {
        yield_now().await;
        transaction.end(true);
        true
    }

    async fn roll_back(transaction: Self::Transaction<'_>) {
        drop(transaction);
    }
}

fn cut(record: &Record) -> Record {
    let fields: Vec<_> = record.fields().collect();
    let body = record
        .body()
        .map(|body| body.slice(..body.len().min(64 * 1024)));
    let fields = fields.iter().map(|(name, value)| (name, value));
    Record::new(
        record.fingerprint(),
        record.status(),
        fields,
        body.as_deref(),
    )
}
