//! The layer of the model: what the files of `src/guarded` do with one request.

use crate::mutation::Mutation;
use crate::request::{Ending, Excuse, HINDERED, Known, Outcome, Phase, Request};
use crate::state::State;
use crate::store::{Answer, Id, LEASE, Slot, Step, claim};

/// How a call of the store goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    /// It is answered; during an outage, with an error, and is not taken.
    Answered,
    /// It is given up after `store_timeout`. It may still reach the store.
    TimedOut,
    /// The store has no room: the step was certainly not taken.
    Full,
}

/// How a handler and its response end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    /// With a response that is to be kept.
    Response,
    /// With an error, or a response that is not to be kept.
    NotKept,
    /// With a panic, or a future that is dropped: before the handler was called, or where nothing
    /// carries it on.
    Panic,
}

/// One step of the protocol. Every call of the store is a step of its own, and so is what the layer
/// does about the answer: a pause fits in between.
pub(crate) struct Layer<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) mutation: Mutation,
}

impl Layer<'_> {
    /// The call that a request makes when its next step is taken, if that step is a call.
    pub(crate) fn next_call(request: &Request, mutation: Mutation) -> Option<Step> {
        match request.phase {
            Phase::Unsent => Some(Step::Begin),
            Phase::Running => Some(Step::Renew),
            Phase::Over(Ending::Complete) if request.known == Known::Held => Some(Step::Complete),
            Phase::Over(Ending::Release) if request.known == Known::Held => Some(Step::Release),
            Phase::Settling {
                renews_first: true, ..
            } if mutation != Mutation::NoRenewal => Some(Step::Renew),
            Phase::Settling { ending, .. } => Some(ending.step()),
            Phase::Looked | Phase::Begun | Phase::Over(_) | Phase::Done(_) => None,
        }
    }

    /// Takes the next step of a request.
    pub(crate) fn step(&mut self, id: Id, call: Call) {
        match self.state.request(id).phase {
            Phase::Unsent => self.begin(id, call),
            Phase::Looked => {
                self.state.slot = claim(id, self.mutation);
                self.started(id, Known::Held);
            }
            Phase::Begun => self.start(id),
            Phase::Running => self.renew(id, call),
            Phase::Over(ending) => self.settle(id, ending, call),
            Phase::Settling {
                ending,
                since,
                renews_first,
            } => self.settle_later(id, ending, since, renews_first, call),
            Phase::Done(_) => {}
        }
    }

    /// `Guard::begin`, and `Execution::begin`, which reads its answer.
    fn begin(&mut self, id: Id, call: Call) {
        if self.mutation == Mutation::BeginInTwoSteps && self.state.slot == Slot::Absent {
            self.state.request(id).phase = Phase::Looked;
            return;
        }
        let known = match self.call(id, Step::Begin, call) {
            Some(Answer::Started) => Known::Held,
            Some(Answer::Completed(response)) => {
                let first = self.state.promise.map(|promise| promise.response);
                self.state.wrong.replay |= first != Some(response);
                return self.state.request(id).finish(Outcome::Replayed);
            }
            Some(_) => return self.state.request(id).finish(Outcome::InProgress),
            // `StoreErrorKind::may_have_been_taken`.
            None if call == Call::Full => Known::Refused,
            None => Known::Unknown,
        };
        self.started(id, known);
    }

    fn started(&mut self, id: Id, known: Known) {
        let request = self.state.request(id);
        request.phase = Phase::Begun;
        request.known = known;
        request.hindered = 0;
    }

    /// `guarded::run`: the handler is called, also where the store failed.
    fn start(&mut self, id: Id) {
        self.state.note_run(id);
        let mutation = self.mutation;
        let request = self.state.request(id);
        request.phase = Phase::Running;
        // `Lease::during` renews whatever is known of the claim.
        request.due = (mutation != Mutation::NoRenewal).then_some(1);
    }

    /// One turn of `Lease::renew_again_and_again`. A response body that is recorded is a longer run. A
    /// renewal that failed is tried again after a twelfth of a lease; here after a tick, which is four
    /// times as long.
    fn renew(&mut self, id: Id, call: Call) {
        let answer = self.call(id, Step::Renew, call);
        let request = self.state.request(id);
        request.due = match answer {
            Some(Answer::Lost) => None,
            None if self.mutation == Mutation::RenewalGivesUp => None,
            _ => Some(1),
        };
    }

    /// The end of the handler, or of the body that is recorded.
    pub(crate) fn end(&mut self, id: Id, end: End) {
        let mutation = self.mutation;
        let request = self.state.request(id);
        request.due = None;
        match end {
            End::Response => {
                request.ran = true;
                request.phase = Phase::Over(Ending::Complete);
            }
            _ if mutation == Mutation::FailureNotReleased => request.finish(Outcome::Other),
            End::NotKept => request.phase = Phase::Over(Ending::Release),
            // `Drop for Guard`, for a claim that may be held.
            End::Panic if request.known == Known::Refused => request.finish(Outcome::Other),
            End::Panic => request.settle_from_now(Ending::Release, false),
        }
    }

    /// `Guard::settle`, and of `Guard::settle_after` what goes on in the background.
    fn settle(&mut self, id: Id, ending: Ending, call: Call) {
        match self.state.request(id).known {
            Known::Held => {}
            // `State::Refused`: there is nothing to settle.
            Known::Refused => return self.state.request(id).finish(Outcome::Other),
            Known::Unknown if self.mutation == Mutation::UnknownNotSettled => {
                return self.state.request(id).finish(Outcome::Other);
            }
            // `State::Unknown`: the response leaves, and the rest is done in the background.
            Known::Unknown => return self.state.request(id).settle_from_now(ending, false),
        }
        // A record that has no room for its body is tried once more without: one call, here.
        match (self.call(id, ending.step(), call), ending) {
            (Some(Answer::Lost), Ending::Complete)
                if self.mutation != Mutation::LostTakenAsKept =>
            {
                self.state.request(id).finish(Outcome::Other);
            }
            (Some(_), Ending::Complete) => {
                let first = self.state.promise.map(|promise| promise.response);
                self.state.wrong.kept |= first != Some(id);
                self.state.request(id).finish(Outcome::Kept);
            }
            (Some(_), Ending::Release) => self.state.request(id).finish(Outcome::Other),
            (None, _) => {
                let request = self.state.request(id);
                match self.mutation {
                    Mutation::CompleteNotRetried => request.finish(Outcome::Other),
                    Mutation::FreedWhenCompleteFails => {
                        request.settle_from_now(Ending::Release, false);
                    }
                    _ => request.settle_from_now(ending, true),
                }
            }
        }
    }

    /// One call of `Lease::settle_later`. Its pauses, which grow from a 64th of a lease to a
    /// quarter, are one tick here: fewer tries than there are.
    fn settle_later(&mut self, id: Id, ending: Ending, since: u8, renews_first: bool, call: Call) {
        if renews_first && self.mutation != Mutation::NoRenewal {
            match self.call(id, Step::Renew, call) {
                // A claim that has ended needs no release; a record may still be kept.
                Some(Answer::Lost) if ending == Ending::Release => {
                    self.state.request(id).finish(Outcome::Other);
                }
                _ => {
                    self.state.request(id).phase = Phase::Settling {
                        ending,
                        since,
                        renews_first: false,
                    };
                }
            }
            return;
        }
        let answer = self.call(id, ending.step(), call);
        let request = self.state.request(id);
        match (answer, ending) {
            (Some(Answer::Yes), Ending::Complete) => request.finish(Outcome::KeptInBackground),
            (Some(_), _) => request.finish(Outcome::Other),
            // The store has failed for a whole lease.
            (None, _) if since >= LEASE => {
                request.excuse = request.excuse.or(Some(Excuse::LeaseLost));
                request.finish(Outcome::Other);
            }
            (None, _) => {
                request.due = Some(1);
                request.phase = Phase::Settling {
                    ending,
                    since,
                    renews_first: true,
                };
            }
        }
    }

    /// Calls the store for a request; `None` is an error.
    fn call(&mut self, id: Id, step: Step, call: Call) -> Option<Answer> {
        let answer = match call {
            Call::Answered if self.state.store_is_up => Some(self.apply(id, step)),
            Call::Answered => None,
            Call::Full => {
                self.state.left.refusals -= 1;
                None
            }
            Call::TimedOut => {
                self.state.left.timeouts -= 1;
                self.state.late.push((id, step));
                self.state.late.sort_unstable();
                None
            }
        };
        let request = self.state.request(id);
        match answer {
            Some(Answer::Yes) => request.hindered = 0,
            Some(_) => {}
            None => request.hindered = (request.hindered + 1).min(HINDERED),
        }
        answer
    }

    /// Takes a step in the store, whether anybody waits for its answer or not.
    pub(crate) fn apply(&mut self, id: Id, step: Step) -> Answer {
        let before = self.state.slot;
        let answer = self.state.slot.apply(step, id, self.mutation);
        self.state.note_step(id, step, before);
        answer
    }
}

impl Request {
    fn settle_from_now(&mut self, ending: Ending, has_failed: bool) {
        self.known = Known::Unknown;
        self.due = Some(u8::from(has_failed));
        self.phase = Phase::Settling {
            ending,
            since: 0,
            renews_first: has_failed,
        };
    }
}

impl Ending {
    fn step(self) -> Step {
        match self {
            Self::Complete => Step::Complete,
            Self::Release => Step::Release,
        }
    }
}
