//! What the memory store keeps under a key.

use super::super::{Begin, Claim, Owner, Record};
use super::tick::Tick;

/// The state of a key, when that ends, and where the key stands in the order of expiry.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) state: State,
    /// The end of the lease or of the ttl, in nanoseconds from the start of the store.
    pub(super) deadline: u64,
    /// The bucket that holds the key. An entry in any other bucket is a leftover.
    pub(super) tick: Tick,
}

/// A claim is boxed to keep the slot small: there are few claims, and many records.
#[derive(Debug)]
pub(super) enum State {
    InProgress(Box<Claim>),
    Completed(Record),
}

impl State {
    /// Keeps a record.
    ///
    /// A small record is copied. A clone would cost as much, and would keep a count of references
    /// for as long as it lives: 31 of the 587 resident bytes of a key with a body of 256 bytes.
    pub(super) fn completed(record: &Record) -> Self {
        Self::Completed(if record.as_bytes().len() > SMALL {
            record.clone()
        } else {
            record.copied()
        })
    }
}

impl Slot {
    /// Returns whether the lease or the ttl still lasts.
    pub(super) fn is_live(&self, now: u64) -> bool {
        now < self.deadline
    }

    /// Returns whether this owner has claimed the key and its lease still lasts.
    pub(super) fn is_held_by(&self, owner: Owner, now: u64) -> bool {
        self.is_claim_of(owner) && self.is_live(now)
    }

    /// Returns whether this owner may complete the key: nobody else holds it, and it has no record.
    pub(super) fn may_be_completed_by(&self, owner: Owner, now: u64) -> bool {
        self.is_claim_of(owner) || !self.is_live(now)
    }

    fn is_claim_of(&self, owner: Owner) -> bool {
        matches!(&self.state, State::InProgress(claim) if claim.owner() == owner)
    }

    /// Returns what a claim finds here.
    pub(super) fn found(&self) -> Begin {
        match &self.state {
            State::InProgress(claim) => Begin::InProgress(claim.fingerprint()),
            State::Completed(record) => Begin::Completed(record.clone()),
        }
    }

    /// Returns the room that the slot takes, in bytes.
    pub(super) fn size(&self) -> usize {
        match &self.state {
            State::InProgress(_) => OVERHEAD + size_of::<Claim>(),
            State::Completed(record) => OVERHEAD + record.as_bytes().len(),
        }
    }
}

/// The greatest size of a record, in bytes, that is copied rather than shared.
const SMALL: usize = 4096;

/// What a key costs beside its record: its place in the table, which is two thirds full on average,
/// and what the allocator adds.
const OVERHEAD: usize =
    (size_of::<crate::RecordKey>() + size_of::<Slot>()) * 3 / 2 + 2 * size_of::<usize>();
