//! A table in memory with transactions that is right, or wrong in one way that a test asks for.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::Instant;
use tower_idempotency::store::{
    Begin, Claim, Owner, Ownership, Record, RecordKey, Store, StoreError,
};

/// What a store may get wrong in transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    IgnoresTheTransaction,
    CommitsByItself,
    KeepsNothing,
    RollBackFreesTheKey,
    CutsABody,
    NoOwner,
    FencedByFingerprint,
    OverwritesARecord,
    OverwritesItsOwnRecord,
    OverwritesTheRecordOfItsTransaction,
    AbsentIsLost,
    LateIsLost,
    LateOfAnotherIsLost,
    TtlFromTheBegin,
    TtlFromTheCommit,
    EndsByTheTimeOfTheBegin,
    ViewOfTheBegin,
    ClaimFindsWhatIsNotCommitted,
    ClaimDoesNotWait,
    RenewDoesNotWait,
    CompleteDoesNotWait,
    ReleaseDoesNotWait,
    ReleaseIsLostAtOnce,
    TransactionDoesNotWait,
    HurriedClaimIsNotMade,
    HurriedClaimTakesOver,
}

/// A table whose rows are locked by the transactions that have changed them.
#[derive(Clone)]
pub(super) struct Table {
    pub(super) fault: Fault,
    pub(super) rows: Arc<Mutex<Rows>>,
    /// A transaction has ended.
    pub(super) ended: Arc<Notify>,
}

#[derive(Default)]
pub(super) struct Rows {
    pub(super) committed: HashMap<RecordKey, Row>,
    /// What a claim finds all the same, where that is the fault.
    pub(super) uncommitted: HashMap<RecordKey, Row>,
    /// Which transaction has changed a row.
    pub(super) locked: HashMap<RecordKey, u64>,
    pub(super) transactions: u64,
}

#[derive(Clone)]
pub(super) struct Row {
    claim: Claim,
    record: Option<Record>,
    pub(super) ttl: Duration,
    pub(super) ends: Instant,
}

impl Table {
    pub(super) fn new(fault: Fault) -> Self {
        Self {
            fault,
            rows: Arc::default(),
            ended: Arc::default(),
        }
    }

    pub(super) fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// Waits until no other transaction has a row, unless this fault is there, and then acts on it.
    pub(super) async fn when_free<T>(
        &self,
        key: &RecordKey,
        transaction: Option<u64>,
        unless: Fault,
        act: impl FnOnce(&mut Rows) -> T,
    ) -> T {
        // As if the table were at a server.
        yield_now().await;
        let mut act = Some(act);
        loop {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            {
                let mut rows = self.rows.lock().unwrap();
                let holder = rows.locked.get(key).copied();
                if holder.is_none() || holder == transaction || self.is(unless) {
                    return act.take().unwrap()(&mut rows);
                }
            }
            ended.await;
        }
    }

    /// Whether a record may be kept where this row is.
    pub(super) fn may_complete(
        &self,
        row: Option<&Row>,
        owner: Owner,
        record: &Record,
        now: Instant,
    ) -> bool {
        let Some(row) = row else {
            return !self.is(Fault::AbsentIsLost);
        };
        let is_owner = row.claim.owner() == owner
            || self.is(Fault::NoOwner)
            || self.is(Fault::FencedByFingerprint)
                && row.claim.fingerprint() == record.fingerprint();
        if row.ends <= now {
            return !(self.is(Fault::LateIsLost)
                || self.is(Fault::LateOfAnotherIsLost) && !is_owner);
        }
        match row.record {
            None => is_owner,
            Some(_) => {
                self.is(Fault::OverwritesARecord)
                    || self.is(Fault::OverwritesItsOwnRecord) && is_owner
            }
        }
    }
}

impl Store for Table {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        let now = Instant::now();
        let is_hurried = !claim.is_durable();
        let found = |row: &Row| match &row.record {
            _ if row.ends <= now => None,
            None if is_hurried && self.is(Fault::HurriedClaimTakesOver) => None,
            None => Some(Begin::InProgress(row.claim.fingerprint())),
            Some(record) => Some(Begin::Completed(record.clone())),
        };
        // By what is committed, without waiting.
        let early = {
            let rows = self.rows.lock().unwrap();
            let row = rows.uncommitted.get(key).or(rows.committed.get(key));
            row.and_then(found)
        };
        if let Some(early) = early {
            return Ok(early);
        }
        let begun = self.when_free(key, None, Fault::ClaimDoesNotWait, |rows| {
            if let Some(found) = rows.committed.get(key).and_then(found) {
                return found;
            }
            let row = Row {
                claim: *claim,
                record: None,
                ttl: lease,
                ends: Instant::now() + lease,
            };
            if !(is_hurried && self.is(Fault::HurriedClaimIsNotMade)) {
                rows.committed.insert(*key, row);
            }
            Begin::Started
        });
        Ok(begun.await)
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        let completed = self.when_free(key, None, Fault::CompleteDoesNotWait, |rows| {
            let now = Instant::now();
            let row = rows.committed.get(key);
            let may = row.is_none_or(|row| {
                row.ends <= now || row.record.is_none() && row.claim.owner() == owner
            });
            if may {
                rows.committed
                    .insert(*key, Row::of(owner, record, ttl, now));
            }
            held(may)
        });
        Ok(completed.await)
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        let renewed = self.when_free(key, None, Fault::RenewDoesNotWait, |rows| {
            let row = rows.committed.get_mut(key);
            let row = row.filter(|row| row.is_held_by(owner));
            held(row.map(|row| row.ends = Instant::now() + lease).is_some())
        });
        Ok(renewed.await)
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        if self.is(Fault::ReleaseIsLostAtOnce) {
            let rows = self.rows.lock().unwrap();
            if rows.locked.contains_key(key) {
                return Ok(Ownership::Lost);
            }
        }
        let released = self.when_free(key, None, Fault::ReleaseDoesNotWait, |rows| {
            let row = rows.committed.get(key);
            let may = row.is_some_and(|row| row.is_held_by(owner));
            if may {
                rows.committed.remove(key);
            }
            held(may)
        });
        Ok(released.await)
    }
}

impl Row {
    pub(super) fn of(owner: Owner, record: &Record, ttl: Duration, now: Instant) -> Self {
        Self {
            claim: Claim::new(owner, record.fingerprint()),
            record: Some(record.clone()),
            ttl,
            ends: now + ttl,
        }
    }

    fn is_held_by(&self, owner: Owner) -> bool {
        self.record.is_none() && self.claim.owner() == owner && Instant::now() < self.ends
    }
}

fn held(may: bool) -> Ownership {
    match may {
        true => Ownership::Held,
        false => Ownership::Lost,
    }
}
