//! The handler: a transaction with an effect and the record, its commit, and all that may fail.

use super::state::{Phase, State};
use crate::mutation::Mutation;
use crate::request::Known;
use crate::store::{Answer, Id, Step};

/// What a handler does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Do {
    /// Opens a transaction and writes its effect.
    Open,
    /// Calls `in_transaction`, and so `complete_in`.
    Write,
    /// The same, but the answer is lost, and the transaction rolled back.
    WriteUnanswered,
    /// The same, but it commits in spite of that, and has no marked response to return.
    CommitUnanswered,
    /// Sends the commit.
    Commit,
    /// Hears what came of the commit.
    Hear,
    /// Returns the response that `in_transaction` has marked.
    Answer,
    /// Gets an error, or gives up waiting, and lets go of its transaction.
    Err,
    /// Begins anew after an error.
    Retry,
    /// Returns anything else than the marked response: an error, a 500, what a caught panic became.
    Fail,
    Panic,
}

pub(crate) struct Handler<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) mutation: Mutation,
    pub(crate) id: Id,
}

impl Handler<'_> {
    /// What a handler may do in a state. Whatever waits for a lock is not there until it is free.
    pub(crate) fn choices(state: &State, id: Id, mutation: Mutation) -> Vec<Do> {
        let execution = &state.executions[usize::from(id)];
        let database = &state.database;
        let waits = database.makes_wait(id, Step::Complete) && mutation != Mutation::NoLock;
        let is_record_there = database.has_record() && mutation != Mutation::CompleteWithoutFence;
        let mut choices = match execution.phase {
            Phase::Ready => vec![Do::Open],
            Phase::Open if mutation == Mutation::CommitBeforeRecord => vec![Do::Commit],
            Phase::Open
                if mutation == Mutation::RecordWrittenOnce && execution.may_have_written =>
            {
                vec![Do::Commit]
            }
            Phase::Open if waits => vec![],
            Phase::Open if state.left.errors > 0 && !is_record_there => {
                vec![Do::Write, Do::WriteUnanswered, Do::CommitUnanswered]
            }
            Phase::Open => vec![Do::Write],
            Phase::Written if mutation == Mutation::NeverCommitted => vec![Do::Answer],
            Phase::Written => vec![Do::Commit],
            Phase::Committing if !database.is_locked_by(id) => vec![Do::Hear],
            Phase::Committing => vec![],
            Phase::Committed => vec![Do::Answer],
            Phase::Failing if state.left.retries > 0 => vec![Do::Fail, Do::Panic, Do::Retry],
            Phase::Failing => vec![Do::Fail, Do::Panic],
            _ => return Vec::new(),
        };
        if state.left.errors > 0 && execution.phase != Phase::Failing {
            choices.push(Do::Err);
        }
        choices
    }

    pub(crate) fn step(&mut self, next: Do) {
        match next {
            Do::Open => self.enter(Phase::Open),
            Do::Write => self.write(),
            Do::WriteUnanswered | Do::CommitUnanswered => {
                self.state.left.errors -= 1;
                self.write();
                if self.mutation == Mutation::OnlySuccessCounts {
                    self.state.execution(self.id).may_have_written = false;
                }
                if next == Do::CommitUnanswered && self.state.database.is_locked_by(self.id) {
                    self.commit();
                }
                self.enter(Phase::Failing);
            }
            Do::Commit => self.commit(),
            Do::Hear if self.state.execution(self.id).has_committed => {
                self.enter(Phase::Committed);
            }
            Do::Hear => self.enter(Phase::Failing),
            Do::Answer => {
                if self.mutation == Mutation::CommitBeforeRecord {
                    let database = &mut self.state.database;
                    database.apply(self.id, Step::Complete, self.mutation);
                }
                // The response leaves at once. Behind it, a release finds out whether it was never
                // committed.
                self.state.tell_success(self.id);
                self.enter(Phase::Behind);
            }
            Do::Err => {
                self.state.left.errors -= 1;
                self.enter(Phase::Failing);
            }
            Do::Retry => {
                self.state.left.retries -= 1;
                if self.mutation == Mutation::LastCallCounts {
                    self.state.execution(self.id).may_have_written = false;
                }
                self.enter(Phase::Ready);
            }
            Do::Fail => self.fail(),
            Do::Panic => {
                self.state.tell_nothing(self.id);
                self.enter(Phase::Behind);
            }
        }
    }

    fn write(&mut self) {
        match self.state.database.complete_in(self.id, self.mutation) {
            Answer::Yes => {
                self.state.execution(self.id).may_have_written = true;
                self.enter(Phase::Written);
            }
            _ if self.mutation == Mutation::LostIgnored => self.commit(),
            _ => self.enter(Phase::Failing),
        }
    }

    fn commit(&mut self) {
        let id = self.id;
        let database = &mut self.state.database;
        match &mut database.locked_by {
            Some(transaction) if transaction.of == id => transaction.is_sent = true,
            // Only where a mutation has kept the record out of the transaction.
            _ => {
                database.effects += 1;
                if self.mutation == Mutation::NoLock {
                    database.apply(id, Step::Complete, Mutation::CompleteWithoutFence);
                }
                self.state.execution(id).has_committed = true;
            }
        }
        self.enter(Phase::Committing);
    }

    /// The layer gets something else than a marked response.
    fn fail(&mut self) {
        let execution = self.state.execution(self.id);
        let asks = match self.mutation {
            Mutation::TruthNotAsked => false,
            // As after a failure of any other handler.
            Mutation::TruthAskedIfHeld => execution.known == Known::Held,
            _ => true,
        };
        if execution.may_have_written && asks {
            return self.enter(match self.mutation {
                Mutation::TruthAskedByBegin => Phase::AskingByBegin,
                _ => Phase::AskingByRelease,
            });
        }
        match execution.known {
            Known::Held => self.enter(Phase::Releasing),
            Known::Unknown => {
                self.state.tell_failure(self.id);
                self.enter(Phase::Behind);
            }
            Known::Refused => {
                self.state.tell_failure(self.id);
                self.state.finish(self.id);
            }
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.state.execution(self.id).phase = phase;
    }
}
