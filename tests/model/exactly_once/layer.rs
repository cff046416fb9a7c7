//! The layer of the model: how it begins, and what it asks when the handler reports a failure.

use super::state::{Execution, Phase, State};
use crate::layer::Call;
use crate::mutation::Mutation;
use crate::request::Known;
use crate::store::{Answer, Id, Step};

pub(crate) struct Layer<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) mutation: Mutation,
    pub(crate) id: Id,
}

impl Layer<'_> {
    /// The call that the layer makes in a phase.
    pub(crate) fn next_call(phase: Phase) -> Option<Step> {
        match phase {
            Phase::Releasing | Phase::AskingByRelease | Phase::Behind => Some(Step::Release),
            Phase::AskingByBegin => Some(Step::Begin),
            _ => None,
        }
    }

    /// A client sends the request. Where the store fails, the handler runs unprotected.
    pub(crate) fn begin(&mut self, call: Call) {
        let known = match self.call(Step::Begin, call) {
            Some(Answer::Started) => Known::Held,
            Some(Answer::Completed(_)) => {
                self.state.sending -= 1;
                self.state.told += 1;
                return;
            }
            // 409: the client sends it again.
            Some(_) => return,
            None if call == Call::Full => Known::Refused,
            None => Known::Unknown,
        };
        self.state.sending -= 1;
        *self.state.execution(self.id) = Execution {
            phase: Phase::Ready,
            known,
            is_heard: true,
            ..Execution::UNUSED
        };
    }

    /// Makes the next call, and does what its answer says.
    pub(crate) fn step(&mut self, call: Call) {
        match self.state.execution(self.id).phase {
            Phase::AskingByRelease => self.ask_by_release(call),
            Phase::AskingByBegin => self.ask_by_begin(call),
            Phase::Releasing => {
                let answer = self.call(Step::Release, call);
                self.state.tell_failure(self.id);
                match answer {
                    Some(_) => self.state.finish(self.id),
                    None => self.enter(Phase::Behind),
                }
            }
            _ => {
                if self.call(Step::Release, call).is_some() {
                    self.state.finish(self.id);
                }
            }
        }
    }

    /// Waits for the end of the transaction, if its claim is still there.
    fn ask_by_release(&mut self, call: Call) {
        if self.mutation == Mutation::TruthIsRead {
            if self.state.database.has_record() {
                self.state.tell_success(self.id);
                self.state.finish(self.id);
            } else {
                self.tell_failure();
            }
            return;
        }
        let step = match self.mutation {
            Mutation::RecordAfterRollback => Step::Complete,
            _ => Step::Release,
        };
        match (self.call(step, call), self.mutation) {
            (Some(_), Mutation::RecordAfterRollback) => {
                self.state.tell_success(self.id);
                self.state.finish(self.id);
            }
            (Some(Answer::Lost), Mutation::LostTakenAsCommitted) => {
                self.state.tell_success(self.id);
                self.state.finish(self.id);
            }
            (Some(Answer::Lost), Mutation::LostTakenAsRolledBack) => self.tell_failure(),
            (Some(Answer::Lost), _) => self.enter(Phase::AskingByBegin),
            (Some(_), _) => self.tell_failure(),
            (None, _) => self.nobody_knows(),
        }
    }

    /// Waits for the end of the transaction, if its claim is not there any more.
    fn ask_by_begin(&mut self, call: Call) {
        match self.call(Step::Begin, call) {
            Some(Answer::Completed(_)) => {
                self.state.tell_success(self.id);
                self.state.finish(self.id);
            }
            Some(Answer::Started) => self.enter(Phase::Releasing),
            Some(_) if self.mutation == Mutation::InProgressTakenAsCommitted => {
                self.state.tell_success(self.id);
                self.state.finish(self.id);
            }
            Some(_) => self.tell_failure(),
            None => self.nobody_knows(),
        }
    }

    /// Answers 503, and frees the key behind it if it can.
    fn nobody_knows(&mut self) {
        match self.mutation {
            Mutation::UnknownTakenAsRolledBack => self.state.tell_failure(self.id),
            _ => self.state.tell_nothing(self.id),
        }
        self.enter(Phase::Behind);
    }

    fn tell_failure(&mut self) {
        self.state.tell_failure(self.id);
        self.state.finish(self.id);
    }

    /// Calls the store; `None` is an error.
    fn call(&mut self, step: Step, call: Call) -> Option<Answer> {
        match call {
            Call::Answered => Some(self.state.database.apply(self.id, step, self.mutation)),
            Call::Full => {
                self.state.left.refusals -= 1;
                None
            }
            Call::TimedOut => {
                self.state.left.timeouts -= 1;
                self.state.database.late.push((self.id, step));
                None
            }
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.state.execution(self.id).phase = phase;
    }
}
