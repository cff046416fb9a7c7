//! The state of the model: the database, the executions, and what the clients know.

use super::database::{Database, NOBODY};
use crate::mutation::Mutation;
use crate::request::Known;
use crate::store::{Id, Slot, Step, claim};

/// Everything that a step may depend on, and what the properties ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) database: Database,
    pub(crate) executions: [Execution; MOST],
    /// How many clients have no answer to wait for, and send the request, once more if need be.
    pub(crate) sending: u8,
    /// How many clients were told of the one success.
    pub(crate) told: u8,
    /// How much more may go wrong.
    pub(crate) left: Faults,
}

/// What may go wrong in one history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    /// Calls of the layer that are given up; they may reach the store all the same.
    pub(crate) timeouts: u8,
    /// Claims that the store refuses.
    pub(crate) refusals: u8,
    /// Errors that a handler gets or makes: a statement or a commit that is refused or not answered,
    /// a conflict of two transactions, or whatever else is no success.
    pub(crate) errors: u8,
    /// Times at which a handler begins anew after an error.
    pub(crate) retries: u8,
    /// Leases that end while the handler runs: its process was stopped, or could not renew it.
    pub(crate) stops: u8,
    pub(crate) kills: u8,
    /// Clients that leave and send the request again.
    pub(crate) leaves: u8,
    /// Crashes of the database's server.
    pub(crate) crashes: u8,
}

/// One request that the layer lets through, in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Execution {
    pub(crate) phase: Phase,
    /// What the layer knows of the claim.
    pub(crate) known: Known,
    /// `in_transaction` has succeeded or nobody knows, be it in a transaction before the last.
    pub(crate) may_have_written: bool,
    /// Its effect is committed, whether anybody knows or not.
    pub(crate) has_committed: bool,
    /// Its client waits for the answer.
    pub(crate) is_heard: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Phase {
    /// The handler has no transaction.
    Ready,
    /// It has one, with the effect in it.
    Open,
    /// `in_transaction` has put the record beside the effect.
    Written,
    /// It waits for the answer to its commit.
    Committing,
    /// It knows that its effect is committed.
    Committed,
    /// It has an error, and no transaction that it could commit.
    Failing,
    /// The layer frees the key, then the failure goes out.
    Releasing,
    /// The layer asks what is true, first by `release`.
    AskingByRelease,
    /// Then by `begin`.
    AskingByBegin,
    /// The answer is out, and a `release` is tried until it is answered.
    Behind,
    Unused,
}

impl State {
    pub(crate) fn new(clients: u8, left: Faults) -> Self {
        Self {
            database: Database::new(),
            executions: [Execution::UNUSED; MOST],
            sending: clients,
            told: 0,
            left,
        }
    }

    pub(crate) fn execution(&mut self, id: Id) -> &mut Execution {
        &mut self.executions[usize::from(id)]
    }

    /// Returns a name for the next execution. If there is none, the client waits.
    pub(crate) fn unused(&self) -> Option<Id> {
        (0..)
            .zip(&self.executions)
            .find_map(|(id, execution)| (execution.phase == Phase::Unused).then_some(id))
    }

    pub(crate) fn active(&self) -> impl Iterator<Item = (Id, &Execution)> + Clone {
        (0..)
            .zip(&self.executions)
            .filter(|(_, execution)| execution.phase != Phase::Unused)
    }

    /// Returns whether the handler of this execution may still commit the transaction that has the
    /// lock. Otherwise it is rolled back, unless its commit is on the way.
    pub(crate) fn is_handled(&self, id: Id) -> bool {
        self.active().any(|(active, execution)| {
            active == id && matches!(execution.phase, Phase::Written | Phase::Committing)
        })
    }

    /// Returns whether somebody renews the claim that is there.
    ///
    /// Nobody does while the record is written and not committed.
    pub(crate) fn is_renewed(&self) -> bool {
        self.active().any(|(id, execution)| {
            self.database.is_claimed_by(id)
                && matches!(execution.phase, Phase::Ready | Phase::Open | Phase::Failing)
        })
    }

    /// An answer of success goes out: the first one, or a replay.
    pub(crate) fn tell_success(&mut self, id: Id) {
        if std::mem::take(&mut self.execution(id).is_heard) {
            self.told += 1;
        }
    }

    /// An answer goes out that says no more than that the client should ask again, or none at all.
    pub(crate) fn tell_nothing(&mut self, id: Id) {
        if std::mem::take(&mut self.execution(id).is_heard) {
            self.sending += 1;
        }
    }

    /// The handler's failure goes out: nothing has happened, and nothing will.
    pub(crate) fn tell_failure(&mut self, id: Id) {
        self.database.wrong.denied |= self.execution(id).has_committed;
        if let Some(transaction) = &mut self.database.locked_by {
            transaction.is_denied |= transaction.of == id;
        }
        self.tell_nothing(id);
    }

    /// Ends an execution. Its claim, its transaction and its calls stay where they are.
    pub(crate) fn finish(&mut self, id: Id) {
        self.tell_nothing(id);
        *self.execution(id) = Execution::UNUSED;
        self.database
            .rename(|name| if name == id { NOBODY } else { name });
    }

    /// What may be under the key after a crash of the database's server. A record is never lost, but
    /// a claim may be, and so may its release: an older claim is there again.
    pub(crate) fn after_crash(&self, mutation: Mutation) -> Vec<Slot> {
        let slot = self.database.slot;
        match slot {
            Slot::Completed { .. } if mutation == Mutation::CommitNotDurable => {
                vec![slot, Slot::Absent]
            }
            Slot::Completed { .. } => vec![slot],
            Slot::Absent | Slot::Claimed { .. } => {
                let owners = self.active().map(|(id, _)| id).chain([NOBODY]);
                let claims = owners.map(|id| claim(id, mutation));
                claims.chain([Slot::Absent]).collect()
            }
        }
    }

    /// The database's server starts anew, without what was not committed.
    pub(crate) fn crash(&mut self, slot: Slot) {
        if slot == Slot::Absent {
            self.database.effects = 0;
        }
        self.database.slot = slot;
        self.database.locked_by = None;
        self.database.late.clear();
        for execution in &mut self.executions {
            if matches!(
                execution.phase,
                Phase::Open | Phase::Written | Phase::Committing
            ) {
                execution.phase = Phase::Failing;
            }
        }
    }

    /// Gives states with the same future the same form, so that they are explored once: which
    /// execution is which makes no difference.
    pub(crate) fn normalize(&mut self) {
        for execution in &mut self.executions {
            if execution.phase == Phase::Behind {
                *execution = Execution {
                    phase: Phase::Behind,
                    ..Execution::UNUSED
                };
            }
        }
        let mut order: [usize; MOST] = std::array::from_fn(|id| id);
        order.sort_by_cached_key(|id| {
            let database = &self.database;
            let late = database.late.iter();
            let late = late.filter(|(late, _)| usize::from(*late) == *id);
            let late: Vec<Step> = late.map(|(_, step)| *step).collect();
            let id = *id as Id;
            let has = (database.is_claimed_by(id), database.is_locked_by(id));
            (self.executions[usize::from(id)], has, late)
        });
        self.executions = order.map(|id| self.executions[id]);
        self.database.rename(|name| {
            let place = order.iter().position(|id| *id == usize::from(name));
            place.map_or(NOBODY, |place| place as Id)
        });
    }
}

impl Execution {
    pub(crate) const UNUSED: Self = Self {
        phase: Phase::Unused,
        known: Known::Held,
        may_have_written: false,
        has_committed: false,
        is_heard: false,
    };
}

/// The greatest number of executions at once.
pub(crate) const MOST: usize = 3;
