//! The store as a process sees it that has it to itself: the states of a key, and what each step
//! does.

use super::history::{Answer, Call, Step};

/// The state of a key, with the bounds of the time at which it ends.
///
/// A store reads its clock at some moment while it takes a step, so the end of a lease is known
/// only to lie between two moments. Each answer that depends on it narrows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Absent,
    InProgress {
        owner: u8,
        request: u32,
        ends: Between,
    },
    Completed {
        record: u32,
        ends: Between,
    },
}

/// Two moments, and any between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Between {
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Between {
    fn after(self, duration: u64) -> Self {
        Self {
            from: self.from + duration,
            to: self.to + duration,
        }
    }
}

impl Key {
    /// Returns what the key is after a call that took effect at some moment between these two, or
    /// `None` if no store answers so.
    ///
    /// There is at most one such state: the answer shows whether a lease was over, or does not
    /// depend on it. If it does not show, nothing is narrowed. So this accepts everything that a
    /// right store can do, and in narrow windows a little more.
    pub(super) fn after(self, call: &Call, now: Between) -> Option<Self> {
        let live = self.live(now);
        let is_held_by =
            |by: u8| matches!(live, Some(Self::InProgress { owner, .. }) if owner == by);
        let is_claim_of = |by: u8| matches!(self, Self::InProgress { owner, .. } if owner == by);
        match (call.step, call.answer) {
            (
                Step::Begin {
                    owner,
                    request,
                    lease,
                },
                Answer::Started,
            ) => self.over(now).map(|_| Self::InProgress {
                owner,
                request,
                ends: now.after(lease),
            }),
            (Step::Begin { .. }, Answer::Full) => self.over(now),
            (Step::Begin { .. }, Answer::InProgress { request: found }) => live
                .filter(|key| matches!(key, Self::InProgress { request, .. } if *request == found)),
            (Step::Begin { .. }, Answer::Completed { record: found }) => {
                live.filter(|key| matches!(key, Self::Completed { record, .. } if *record == found))
            }
            // Whether the owner's own lease is over does not matter, and does not show.
            (Step::Complete { owner, .. }, Answer::Full) if is_claim_of(owner) => Some(self),
            (Step::Complete { .. }, Answer::Full) => self.over(now),
            (Step::Complete { owner, record, ttl }, Answer::Yes) => {
                let may = is_claim_of(owner) || self.over(now).is_some();
                may.then_some(Self::Completed {
                    record,
                    ends: now.after(ttl),
                })
            }
            (Step::Complete { owner, .. }, Answer::Lost) => live.filter(|_| !is_claim_of(owner)),
            (Step::Renew { owner, lease }, Answer::Yes) if is_held_by(owner) => match live {
                Some(Self::InProgress { request, .. }) => Some(Self::InProgress {
                    owner,
                    request,
                    ends: now.after(lease),
                }),
                _ => None,
            },
            (Step::Release { owner }, Answer::Yes) if is_held_by(owner) => Some(Self::Absent),
            (Step::Renew { owner, .. } | Step::Release { owner }, Answer::Lost)
                if is_claim_of(owner) =>
            {
                self.over(now)
            }
            (Step::Renew { .. } | Step::Release { .. }, Answer::Lost) => Some(self),
            _ => None,
        }
    }

    /// Returns the key as it is if its lease or ttl may last at some moment between these two.
    fn live(self, now: Between) -> Option<Self> {
        let narrowed = |ends: Between| {
            let from = ends.from.max(now.from + 1);
            (from <= ends.to).then_some(Between { from, ..ends })
        };
        match self {
            Self::Absent => None,
            Self::InProgress {
                owner,
                request,
                ends,
            } => narrowed(ends).map(|ends| Self::InProgress {
                owner,
                request,
                ends,
            }),
            Self::Completed { record, ends } => {
                narrowed(ends).map(|ends| Self::Completed { record, ends })
            }
        }
    }

    /// Returns `Absent` if the key is, or may be over at some moment between these two.
    fn over(self, now: Between) -> Option<Self> {
        match self {
            Self::Absent => Some(Self::Absent),
            Self::InProgress { ends, .. } | Self::Completed { ends, .. } => {
                (ends.from <= now.to).then_some(Self::Absent)
            }
        }
    }
}
