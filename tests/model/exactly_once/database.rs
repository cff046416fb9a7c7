//! The database of the model: the key's row, its lock, and the effects of the handlers.

use crate::mutation::Mutation;
use crate::store::{Answer, Id, Slot, Step, TTL};

/// What is committed, and what may yet be. Effects have no names: a transaction has one, and two are
/// one too many.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Database {
    /// What is committed under the key.
    pub(crate) slot: Slot,
    /// How many effects are committed.
    pub(crate) effects: u8,
    /// The transaction that has written the record and not ended. There is never a second one, since
    /// it would wait for the lock of the first. A transaction without the record is not seen here.
    pub(crate) locked_by: Option<Transaction>,
    /// Calls that were given up, and that reach the database at some time or never. Sorted, since
    /// the network keeps no order.
    pub(crate) late: Vec<(Id, Step)>,
    pub(crate) wrong: Wrong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Transaction {
    pub(crate) of: Id,
    /// Its commit is on the way: whether its handler is still there makes no difference.
    pub(crate) is_sent: bool,
    /// A client was told that nothing has happened.
    pub(crate) is_denied: bool,
}

/// What a step did that the state after it does not show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wrong {
    pub(crate) denied: bool,
    pub(crate) overtaken: bool,
}

/// Whoever is gone: a claim or a call of an execution that is over. Nobody acts by that name any
/// more.
pub(crate) const NOBODY: Id = Id::MAX;

impl Database {
    pub(crate) fn new() -> Self {
        Self {
            slot: Slot::Absent,
            effects: 0,
            locked_by: None,
            late: Vec::new(),
            wrong: Wrong::default(),
        }
    }

    /// Returns whether a call waits for the lock.
    ///
    /// `begin` answers with what it can read, and else inserts. `release` looks for its own claim,
    /// and so does not see a record that is inserted and not committed.
    pub(crate) fn makes_wait(&self, id: Id, step: Step) -> bool {
        self.locked_by.is_some()
            && match step {
                Step::Begin => self.slot == Slot::Absent,
                Step::Complete => true,
                Step::Renew | Step::Release => self.is_claimed_by(id),
            }
    }

    /// Takes a step that is committed by itself.
    pub(crate) fn apply(&mut self, id: Id, step: Step, mutation: Mutation) -> Answer {
        let answer = self.slot.apply(step, id, mutation);
        if step == Step::Complete && answer == Answer::Yes {
            self.keep(id);
        }
        answer
    }

    /// `complete_in`: takes the lock and the step, which nobody sees before the commit.
    pub(crate) fn complete_in(&mut self, id: Id, mutation: Mutation) -> Answer {
        let answer = { self.slot }.apply(Step::Complete, id, mutation);
        if answer == Answer::Yes {
            match mutation {
                Mutation::RecordApart => self.keep(id),
                Mutation::NoLock => {}
                _ => {
                    self.locked_by = Some(Transaction {
                        of: id,
                        is_sent: false,
                        is_denied: false,
                    });
                }
            }
        }
        answer
    }

    /// Commits the transaction that holds the lock.
    pub(crate) fn commit(&mut self, transaction: Transaction) {
        self.locked_by = None;
        self.effects += 1;
        self.keep(transaction.of);
        self.wrong.denied |= transaction.is_denied;
    }

    fn keep(&mut self, id: Id) {
        self.wrong.overtaken |= matches!(self.slot, Slot::Claimed { owner, .. } if owner != id);
        // All records are alike: which effect one belongs to is a matter of their number.
        self.slot = Slot::Completed {
            response: NOBODY,
            left: TTL,
        };
    }

    pub(crate) fn is_claimed_by(&self, id: Id) -> bool {
        matches!(self.slot, Slot::Claimed { owner, .. } if owner == id)
    }

    pub(crate) fn is_locked_by(&self, id: Id) -> bool {
        self.locked_by
            .is_some_and(|transaction| transaction.of == id)
    }

    pub(crate) fn has_record(&self) -> bool {
        matches!(self.slot, Slot::Completed { .. })
    }

    /// Gives each execution another name.
    pub(crate) fn rename(&mut self, name: impl Fn(Id) -> Id) {
        if let Slot::Claimed { owner, .. } = &mut self.slot {
            *owner = name(*owner);
        }
        if let Some(transaction) = &mut self.locked_by {
            transaction.of = name(transaction.of);
        }
        for (id, _) in &mut self.late {
            *id = name(*id);
        }
        self.late.sort_unstable();
    }
}
