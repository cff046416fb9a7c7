//! The store of the model: one key, and the rules of the `Store` trait.
//!
//! Not the scripted store of the other suites: this one is a value that is copied and compared.

use crate::mutation::Mutation;

/// A request, named by its place in the history. The number is also the owner token of its claim
/// and the response of its handler, so no two requests share either.
pub(crate) type Id = u8;

/// A lease, in ticks. A tick is a third of it: the time between two renewals.
pub(crate) const LEASE: u8 = 3;
/// How long a record is kept: longer than a lease, so that neither can be taken for the other.
pub(crate) const TTL: u8 = 5;

/// What the store has under the key, as in the diagram of `Store`. Time is counted down, so that
/// histories that differ only in their beginning are one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    Absent,
    Claimed { owner: Id, left: u8 },
    Completed { response: Id, left: u8 },
}

/// A call of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Step {
    Begin,
    Renew,
    Complete,
    Release,
}

/// What the store answers: `Begin` and `Ownership` in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Started,
    InProgress,
    Completed(Id),
    Yes,
    Lost,
}

impl Slot {
    /// Takes one atomic step. A lease or a ttl that has ended is `Absent` here, thanks to `tick`.
    pub(crate) fn apply(&mut self, step: Step, owner: Id, mutation: Mutation) -> Answer {
        let held = matches!(*self, Self::Claimed { owner: holder, .. } if holder == owner);
        match (step, *self) {
            (Step::Begin, Self::Absent) => {
                *self = claim(owner, mutation);
                Answer::Started
            }
            // Made by an earlier call, whose answer was lost.
            (Step::Begin, Self::Claimed { .. }) if held => Answer::Started,
            (Step::Begin, Self::Claimed { .. }) => Answer::InProgress,
            (Step::Begin, Self::Completed { response, .. }) => Answer::Completed(response),
            (Step::Complete, Self::Absent) if mutation == Mutation::LateCompleteLost => {
                Answer::Lost
            }
            (Step::Complete, Self::Claimed { .. })
                if mutation == Mutation::CompleteWithoutOwner =>
            {
                *self = Self::Completed {
                    response: owner,
                    left: TTL,
                };
                Answer::Yes
            }
            (Step::Complete, slot)
                if held || slot == Self::Absent || mutation == Mutation::CompleteWithoutFence =>
            {
                let left = match mutation {
                    Mutation::LeaseAsTtl => LEASE,
                    _ => TTL,
                };
                let response = owner;
                *self = Self::Completed { response, left };
                Answer::Yes
            }
            (Step::Renew, Self::Claimed { owner: holder, .. })
                if held || mutation == Mutation::RenewWithoutOwner =>
            {
                *self = claim(holder, mutation);
                Answer::Yes
            }
            (Step::Release, Self::Claimed { .. })
                if held || mutation == Mutation::ReleaseWithoutOwner =>
            {
                *self = Self::Absent;
                Answer::Yes
            }
            (Step::Release, Self::Completed { .. })
                if mutation == Mutation::ReleaseDropsRecords =>
            {
                *self = Self::Absent;
                Answer::Yes
            }
            (Step::Complete | Step::Renew | Step::Release, _) => Answer::Lost,
        }
    }

    /// Lets time pass, and returns what ended.
    pub(crate) fn tick(&mut self) -> Option<Self> {
        let (Self::Claimed { left, .. } | Self::Completed { left, .. }) = self else {
            return None;
        };
        *left -= 1;
        (*left == 0).then(|| std::mem::replace(self, Self::Absent))
    }
}

/// Returns what a claim writes, whatever is there.
pub(crate) fn claim(owner: Id, mutation: Mutation) -> Slot {
    let left = match mutation {
        Mutation::TtlAsLease => TTL,
        _ => LEASE,
    };
    Slot::Claimed { owner, left }
}
