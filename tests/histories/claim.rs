//! What is known of a claim, and what excuses it from keeping to the rules.

use std::time::Duration;

use support::{Call, Fault};
use tokio::time::Instant;
use tower_idempotency::RecordKey;
use tower_idempotency::store::{Fingerprint, Record, StoreErrorKind};

use crate::script::{STORE_TIMEOUT, TTL};

/// Whoever asked the store for a key.
pub(crate) struct Claimant {
    pub(crate) key: RecordKey,
    pub(crate) client: Option<usize>,
    pub(crate) told: Option<Told>,
    pub(crate) claimed: bool,
    /// Faults by the call that they met, without those that were only slow.
    pub(crate) faults: Vec<(Call, Fault)>,
    pub(crate) slow: Duration,
    /// The process stood still, or the store forgot, while the key was claimed.
    pub(crate) uprooted: bool,
    pub(crate) completed: Option<Completion>,
    pub(crate) released: bool,
}

/// A record in the store, until its ttl ends or the store forgets it.
pub(crate) struct Completion {
    pub(crate) at: Instant,
    pub(crate) record: Record,
    pub(crate) forgotten: bool,
}

/// What the layer was told when it asked for a key.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Started,
    InProgress(Fingerprint),
    Completed(Record),
    Failure,
}

impl Completion {
    pub(crate) fn is_live(&self) -> bool {
        !self.forgotten && Instant::now() < self.at + TTL
    }
}

impl Claimant {
    /// Returns whether the claim may be lost although the layer did all that it should.
    pub(crate) fn is_excused(&self) -> bool {
        let count = |of: &[Call]| {
            self.faults
                .iter()
                .filter(|(call, _)| of.contains(call))
                .count()
        };
        let gave_up = |(call, fault): &(Call, Fault)| {
            *call != Call::Begin && *fault == Fault::Fail(StoreErrorKind::Corrupt)
        };
        self.uprooted
            || !self.claimed
            || self.faults.iter().any(|(_, fault)| *fault == Fault::Lie)
            // A lease outlives one renewal that fails, and a settlement is tried again.
            || count(&[Call::Renew]) > 1
            || count(&[Call::Complete, Call::Release]) > 2
            || self.faults.iter().any(gave_up)
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.completed.is_some() || self.released
    }

    /// Returns whether the store failed to claim or to settle, as far as the layer can know.
    pub(crate) fn has_failed(&self) -> bool {
        let mut faults = self.faults.iter();
        faults.any(|(call, _)| *call != Call::Renew) || self.slow >= STORE_TIMEOUT || self.uprooted
    }

    pub(crate) fn was_refused_for_room(&self) -> bool {
        self.faults.contains(&NO_ROOM)
    }

    /// Returns whether all that went wrong with this claim is that its record once had no room.
    pub(crate) fn was_only_refused_for_room(&self) -> bool {
        self.faults == [NO_ROOM] && self.slow < STORE_TIMEOUT && !self.uprooted
    }

    pub(crate) fn may_have_lost_its_lease(&self) -> bool {
        self.is_excused()
    }

    pub(crate) fn was_lied_to(&self) -> bool {
        self.faults.iter().any(|(_, fault)| *fault == Fault::Lie)
    }
}

const NO_ROOM: (Call, Fault) = (Call::Complete, Fault::Fail(StoreErrorKind::Full));
