//! A plain store that is right, or wrong in one way that a test asks for.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tower_idempotency::store::{
    Begin, Claim, Fingerprint, Owner, Ownership, Record, StoreErrorKind,
};
use tower_idempotency::{RecordKey, Store, StoreError};

/// What a store may get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    // Claims.
    GetThenSetClaim,
    ClaimTakesOver,
    ClaimReplacesRecord,
    AskersFingerprint,
    FingerprintOfTheFirstEver,
    TakeoverKeepsTheFirstOwner,
    // Fences.
    UnfencedComplete,
    UnfencedRenew,
    UnfencedRelease,
    FencedByFingerprint,
    OwnerTruncated,
    FirstOwnerIsForever,
    LateRenew,
    LateRelease,
    CompletedRecordOverwritten,
    ReleaseOfCompletedKey,
    RenewOfCompletedKey,
    ReleaseTwiceIsHeld,
    RenewDoesNothing,
    ReleaseDoesNothing,
    GetThenSetComplete,
    // Late completions.
    CompleteOfAbsentKeyLost,
    CompleteAfterTheLeaseLost,
    CompleteAfterTheLeaseOfAnotherLost,
    CompleteAfterTheTtlLost,
    CompleteOfReleasedKeyLost,
    LateRecordForgotten,
    LateRecordWithoutEnd,
    GetThenSetLateComplete,
    // Terms.
    TtlUsedAsLease,
    LeaseUsedAsTtl,
    TtlFromTheClaim,
    LeaseExpiryForgotten,
    RecordExpiryForgotten,
    LeaseProlongedByAskers,
    TtlProlongedByReplays,
    RenewAddsToTheLease,
    EndsATenthEarly,
    WholeSecondsRoundedDown,
    WholeSecondsRoundedUp,
    OneEndForAll,
    // Records.
    HeadersMerged,
    HeadersSorted,
    HeadersWithoutEmptyOnes,
    HeadersAsUtf8,
    BodyTruncatedAt64KiB,
    BodyAsCString,
    BodyAsUtf8,
    NoBodyBecomesEmpty,
    StatusOutOfRange,
    FingerprintLost,
    // Keys.
    KeyTruncated,
    KeyAsCString,
    KeyWithoutCase,
    // Cancellation and room.
    CompleteInTwoHalves,
    ClaimInTwoHalves,
    LockKeptOnCancel,
    RoomKept,
    RoomOfLateRecordsKept,
    OldestDroppedWhenFull,
    OldestDroppedForALateRecord,
    FullForThoseWhoHold,
}

#[derive(Clone)]
pub(super) struct FaultyStore {
    fault: Fault,
    limit: usize,
    slots: Arc<Mutex<HashMap<RecordKey, Slot>>>,
    first: Arc<Mutex<HashMap<RecordKey, Fingerprint>>>,
    released: Arc<Mutex<HashSet<RecordKey>>>,
    gate: Arc<Semaphore>,
}

struct Slot {
    claim: Claim,
    record: Option<Record>,
    since: Instant,
    lease: Duration,
    ends: Instant,
}

impl FaultyStore {
    pub(super) fn new(fault: Fault) -> Self {
        Self {
            fault,
            limit: usize::MAX,
            slots: Arc::default(),
            first: Arc::default(),
            released: Arc::default(),
            gate: Arc::new(Semaphore::new(1)),
        }
    }

    pub(super) fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.lock().unwrap().len()
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn name(&self, key: &RecordKey) -> RecordKey {
        let mut bytes = *key.as_bytes();
        match self.fault {
            Fault::KeyTruncated => bytes[16..].fill(0),
            Fault::KeyWithoutCase => bytes.make_ascii_lowercase(),
            Fault::KeyAsCString => {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(32);
                bytes[end..].fill(0);
            }
            _ => {}
        }
        RecordKey::from_bytes(bytes)
    }

    fn end(&self, now: Instant, term: Duration) -> Instant {
        let seconds = Duration::from_secs(term.as_secs());
        let term = match self.fault {
            Fault::EndsATenthEarly => term * 9 / 10,
            Fault::WholeSecondsRoundedDown => seconds,
            Fault::WholeSecondsRoundedUp => seconds + Duration::from_secs(1),
            _ => term,
        };
        now + term
    }

    fn is_live(&self, slot: &Slot, now: Instant) -> bool {
        let forgotten = match slot.record {
            None => Fault::LeaseExpiryForgotten,
            Some(_) => Fault::RecordExpiryForgotten,
        };
        now < slot.ends || self.is(forgotten)
    }

    fn is_owner(&self, slot: &Slot, owner: Owner) -> bool {
        let holder = slot.claim.owner();
        if self.is(Fault::OwnerTruncated) {
            return holder.as_bytes()[..8] == owner.as_bytes()[..8];
        }
        holder == owner
    }

    fn may_complete(
        &self,
        name: RecordKey,
        slot: Option<&Slot>,
        owner: Owner,
        record: &Record,
    ) -> bool {
        let fingerprint = record.fingerprint();
        let Some(slot) = slot else {
            let is_released = self.released.lock().unwrap().contains(&name);
            return !(self.is(Fault::CompleteOfAbsentKeyLost)
                || self.is(Fault::CompleteOfReleasedKeyLost) && is_released);
        };
        let is_owner = self.is_owner(slot, owner);
        if !self.is_live(slot, Instant::now()) {
            return !self.is(match slot.record {
                Some(_) => Fault::CompleteAfterTheTtlLost,
                None if is_owner => Fault::CompleteAfterTheLeaseLost,
                None => Fault::CompleteAfterTheLeaseOfAnotherLost,
            });
        }
        let first = self.first.lock().unwrap().get(&name).copied();
        let may = is_owner
            || self.is(Fault::UnfencedComplete)
            || self.is(Fault::FencedByFingerprint) && fingerprint == slot.claim.fingerprint()
            || self.is(Fault::FirstOwnerIsForever) && Some(fingerprint) == first;
        may && (slot.record.is_none() || self.is(Fault::CompletedRecordOverwritten))
    }

    /// Removes a key a second after it has ended, without a request coming in.
    fn give_back(&self, name: RecordKey, ends: Instant) {
        if self.is(Fault::RoomKept) {
            return;
        }
        let store = self.clone();
        tokio::spawn(async move {
            sleep_until(ends + Duration::from_secs(1)).await;
            let mut slots = store.slots.lock().unwrap();
            let now = Instant::now();
            if slots
                .get(&name)
                .is_some_and(|slot| !store.is_live(slot, now))
            {
                slots.remove(&name);
            }
            if store.is(Fault::OneEndForAll) {
                slots.clear();
            }
        });
    }

    /// Comes before each step, so that its future is pending for a while, as a server's is.
    async fn travel(&self) {
        if self.is(Fault::LockKeptOnCancel) {
            self.gate.acquire().await.unwrap().forget();
            yield_now().await;
            self.gate.add_permits(1);
        }
        yield_now().await;
    }
}

impl Store for FaultyStore {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        self.travel().await;
        let name = self.name(key);
        if self.is(Fault::GetThenSetClaim) {
            let now = Instant::now();
            let is_free = {
                let slots = self.slots.lock().unwrap();
                slots.get(&name).is_none_or(|slot| !self.is_live(slot, now))
            };
            yield_now().await;
            if is_free {
                self.slots.lock().unwrap().remove(&name);
            }
        }
        if self.is(Fault::ClaimInTwoHalves) {
            let is_free = !self.slots.lock().unwrap().contains_key(&name);
            if is_free {
                let nobody = Claim::new(Owner::new(), Fingerprint::from_bytes([0; 32]));
                let slot = Slot {
                    claim: nobody,
                    record: None,
                    since: Instant::now(),
                    lease,
                    ends: self.end(Instant::now(), lease),
                };
                self.slots.lock().unwrap().insert(name, slot);
                yield_now().await;
                self.slots.lock().unwrap().remove(&name);
            }
        }
        let now = Instant::now();
        let mut slots = self.slots.lock().unwrap();
        let full = slots.len() >= self.limit;
        let first = *self
            .first
            .lock()
            .unwrap()
            .entry(name)
            .or_insert(claim.fingerprint());
        let mut claim = *claim;
        if let Some(slot) = slots.get_mut(&name) {
            if self.is_live(slot, now) {
                if full && self.is(Fault::FullForThoseWhoHold) {
                    return Err(StoreErrorKind::Full.into());
                }
                match &slot.record {
                    None if self.is(Fault::ClaimTakesOver) => {}
                    None => {
                        if self.is(Fault::LeaseProlongedByAskers) {
                            slot.ends = self.end(now, lease);
                        }
                        return Ok(Begin::InProgress(match self.fault {
                            Fault::AskersFingerprint => claim.fingerprint(),
                            Fault::FingerprintOfTheFirstEver => first,
                            _ => slot.claim.fingerprint(),
                        }));
                    }
                    Some(record) => {
                        let found = Begin::Completed(record.clone());
                        if self.is(Fault::TtlProlongedByReplays) {
                            slot.ends = self.end(now, lease);
                        }
                        if self.is(Fault::ClaimReplacesRecord) {
                            slot.record = None;
                            slot.claim = claim;
                        }
                        return Ok(found);
                    }
                }
            } else if self.is(Fault::TakeoverKeepsTheFirstOwner) {
                claim = Claim::new(slot.claim.owner(), claim.fingerprint());
            }
        } else if full {
            if !self.is(Fault::OldestDroppedWhenFull) {
                return Err(StoreErrorKind::Full.into());
            }
            drop_oldest(&mut slots);
            if slots.len() % 8 == 0 {
                return Err(StoreErrorKind::Full.into());
            }
        }
        let term = match self.fault {
            Fault::TtlUsedAsLease => DAY,
            _ => lease,
        };
        let ends = self.end(now, term);
        let slot = Slot {
            claim,
            record: None,
            since: now,
            lease,
            ends,
        };
        slots.insert(name, slot);
        drop(slots);
        self.give_back(name, ends);
        Ok(Begin::Started)
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        self.travel().await;
        let name = self.name(key);
        let now = Instant::now();
        let is_live = |slots: &HashMap<RecordKey, Slot>| {
            let slot = slots.get(&name);
            slot.is_some_and(|slot| self.is_live(slot, now))
        };
        let (may, is_late) = {
            let slots = self.slots.lock().unwrap();
            let may = self.may_complete(name, slots.get(&name), owner, record);
            (may, !is_live(&slots))
        };
        if !may {
            return Ok(Ownership::Lost);
        }
        let looks_once =
            self.is(Fault::GetThenSetComplete) || self.is(Fault::GetThenSetLateComplete) && is_late;
        if looks_once {
            yield_now().await;
        }
        if self.is(Fault::CompleteInTwoHalves) {
            if let Some(slot) = self.slots.lock().unwrap().get_mut(&name) {
                slot.record = Some(record.without_body());
            }
            yield_now().await;
            if let Some(slot) = self.slots.lock().unwrap().get_mut(&name) {
                slot.record = None;
            }
        }
        let mut slots = self.slots.lock().unwrap();
        if !(looks_once || self.may_complete(name, slots.get(&name), owner, record)) {
            return Ok(Ownership::Lost);
        }
        let held = slots.get(&name);
        if held.is_none() && slots.len() >= self.limit {
            if !self.is(Fault::OldestDroppedForALateRecord) {
                return Err(StoreErrorKind::Full.into());
            }
            drop_oldest(&mut slots);
        }
        if is_late && self.is(Fault::LateRecordForgotten) {
            return Ok(Ownership::Held);
        }
        let held = slots.get(&name).filter(|_| !is_late);
        let (since, lease) = held.map_or((now, ttl), |slot| (slot.since, slot.lease));
        let ends = match self.fault {
            Fault::LeaseUsedAsTtl => self.end(since, lease),
            Fault::TtlFromTheClaim => self.end(since, ttl),
            Fault::LateRecordWithoutEnd if is_late => now + DAY,
            _ => self.end(now, ttl),
        };
        let slot = Slot {
            claim: Claim::new(owner, record.fingerprint()),
            record: Some(kept(self.fault, record)),
            since,
            lease,
            ends,
        };
        slots.insert(name, slot);
        drop(slots);
        if !(is_late && self.is(Fault::RoomOfLateRecordsKept)) {
            self.give_back(name, ends);
        }
        Ok(Ownership::Held)
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        self.travel().await;
        let name = self.name(key);
        let now = Instant::now();
        let mut slots = self.slots.lock().unwrap();
        let Some(slot) = slots.get_mut(&name) else {
            return Ok(Ownership::Lost);
        };
        let is_owner = self.is_owner(slot, owner) || self.is(Fault::UnfencedRenew);
        let is_in_progress = slot.record.is_none() || self.is(Fault::RenewOfCompletedKey);
        let is_live = self.is_live(slot, now) || self.is(Fault::LateRenew);
        if !(is_owner && is_in_progress && is_live) {
            return Ok(Ownership::Lost);
        }
        slot.ends = match self.fault {
            Fault::RenewDoesNothing => slot.ends,
            Fault::RenewAddsToTheLease => slot.ends + lease,
            _ => self.end(now, lease),
        };
        let ends = slot.ends;
        drop(slots);
        self.give_back(name, ends);
        Ok(Ownership::Held)
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        self.travel().await;
        let name = self.name(key);
        let now = Instant::now();
        let mut slots = self.slots.lock().unwrap();
        let Some(slot) = slots.get(&name) else {
            return Ok(match self.fault {
                Fault::ReleaseTwiceIsHeld => Ownership::Held,
                _ => Ownership::Lost,
            });
        };
        let is_owner = self.is_owner(slot, owner) || self.is(Fault::UnfencedRelease);
        let is_in_progress = slot.record.is_none() || self.is(Fault::ReleaseOfCompletedKey);
        let is_live = self.is_live(slot, now) || self.is(Fault::LateRelease);
        if !(is_owner && is_in_progress && is_live) {
            return Ok(Ownership::Lost);
        }
        if !self.is(Fault::ReleaseDoesNothing) {
            slots.remove(&name);
            self.released.lock().unwrap().insert(name);
        }
        Ok(Ownership::Held)
    }
}

fn drop_oldest(slots: &mut HashMap<RecordKey, Slot>) {
    let oldest = slots.iter().min_by_key(|(_, slot)| slot.since);
    let oldest = *oldest.unwrap().0;
    slots.remove(&oldest);
}

/// What a faulty store makes of a record.
fn kept(fault: Fault, record: &Record) -> Record {
    let mut status = record.status();
    let mut fingerprint = record.fingerprint();
    let mut fields: Vec<_> = record.fields().collect();
    let mut body = record.body().map(|body| body.to_vec());
    match fault {
        Fault::HeadersMerged => {
            let merged: HeaderMap = fields.into_iter().collect::<HeaderMap>();
            fields = merged.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
            fields.dedup_by(|a, b| a.0 == b.0);
        }
        Fault::HeadersSorted => fields.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str())),
        Fault::HeadersWithoutEmptyOnes => fields.retain(|(_, value)| !value.is_empty()),
        Fault::HeadersAsUtf8 => {
            for (_, value) in &mut fields {
                let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
                *value = HeaderValue::try_from(text).unwrap();
            }
        }
        Fault::BodyTruncatedAt64KiB => {
            if let Some(body) = &mut body {
                body.truncate(64 * 1024);
            }
        }
        Fault::BodyAsCString => {
            if let Some(body) = &mut body {
                let end = body.iter().position(|byte| *byte == 0);
                body.truncate(end.unwrap_or(body.len()));
            }
        }
        Fault::BodyAsUtf8 => {
            body = body.map(|body| String::from_utf8_lossy(&body).into_owned().into_bytes());
        }
        Fault::NoBodyBecomesEmpty => body = Some(body.unwrap_or_default()),
        Fault::StatusOutOfRange if status.as_u16() > 599 => {
            status = StatusCode::INTERNAL_SERVER_ERROR;
        }
        Fault::FingerprintLost => fingerprint = Fingerprint::from_bytes([0; 32]),
        _ => {}
    }
    let fields = fields.iter().map(|(name, value)| (name, value));
    Record::new(fingerprint, status, fields, body.as_deref())
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
