//! What may happen in each state, and what must always hold.

use stateright::{Model, Property};

use crate::layer::{Call, End, Layer};
use crate::mutation::Mutation;
use crate::request::{Excuse, Known, Outcome, Phase, Request};
use crate::state::{Faults, Process, State, Wrong};
use crate::store::{Id, LEASE, Slot, Step};

/// A protocol, right or wrong, and how much of it is explored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol {
    pub(crate) processes: usize,
    pub(crate) requests: usize,
    pub(crate) faults: Faults,
    pub(crate) mutation: Mutation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A client sends the request, for the first time or once more.
    Send(Id, usize, Call),
    /// The layer does what is next.
    Next(Id, Call),
    End(Id, End),
    /// A call that was given up reaches the store.
    Arrive(Id, Step),
    Outage,
    Recovery,
    Pause(usize),
    Resume(usize),
    Crash(usize),
    /// A third of a lease passes, but not while a process that is awake has something to do: such a
    /// process meets its deadlines, or else it counts as paused.
    Tick,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.processes, self.requests, self.faults)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.request_actions(state, actions);
        for (id, step) in &state.late {
            if state.store_is_up {
                actions.push(Action::Arrive(*id, *step));
            }
        }
        if !state.store_is_up {
            actions.push(Action::Recovery);
        } else if state.left.outages > 0 {
            actions.push(Action::Outage);
        }
        for (process, is) in state.processes.iter().enumerate() {
            let mut requests = state.requests.iter();
            let is_used = requests.any(|r| r.is_active() && r.process == process);
            match is {
                Process::Awake if is_used && state.left.pauses > 0 => {
                    actions.push(Action::Pause(process));
                }
                Process::Paused => actions.push(Action::Resume(process)),
                _ => {}
            }
            if *is != Process::Dead && is_used && state.left.crashes > 0 {
                actions.push(Action::Crash(process));
            }
        }
        if !state.is_busy() {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        next.wrong = Wrong::default();
        let mut layer = Layer {
            state: &mut next,
            mutation: self.mutation,
        };
        match action {
            Action::Send(id, process, call) => {
                layer.state.request(id).process = process;
                layer.step(id, call);
            }
            Action::Next(id, call) => layer.step(id, call),
            Action::End(id, end) => layer.end(id, end),
            Action::Arrive(id, step) => {
                let late = layer.state.late.iter().position(|late| *late == (id, step));
                layer.state.late.remove(late?);
                layer.apply(id, step);
            }
            Action::Outage => {
                next.left.outages -= 1;
                next.store_is_up = false;
            }
            Action::Recovery => next.store_is_up = true,
            Action::Pause(process) => {
                next.left.pauses -= 1;
                next.processes[process] = Process::Paused;
            }
            Action::Resume(process) => next.processes[process] = Process::Awake,
            Action::Crash(process) => {
                next.left.crashes -= 1;
                next.crash(process);
            }
            Action::Tick => next.tick(),
        }
        next.normalize();
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            // A store that is down or lost a call lets the handler run unprotected: that is what
            // failing open means. Only such a run may meet another, or one whose lease was really
            // lost; and neither may run again once its completion has found the key absent.
            Property::always(OVERLAP, |_, state: &State| !state.wrong.overlap),
            Property::always(SECOND_RUN, |_, state: &State| !state.wrong.second_run),
            Property::always(RECORD, |_, state: &State| {
                state.promise.is_none_or(|promise| {
                    matches!(state.slot, Slot::Completed { response, .. }
                        if response == promise.response)
                })
            }),
            Property::always(REPLAY, |_, state: &State| !state.wrong.replay),
            Property::always(KEPT, |_, state: &State| !state.wrong.kept),
            Property::always(STUCK, |_, state: &State| state.abandoned < LEASE),
            Property::always(FREED, |model: &Self, state: &State| {
                let Slot::Claimed { owner, .. } = state.slot else {
                    return true;
                };
                let is_done = !state.requests[usize::from(owner)].is_active();
                !(is_done && state.left == model.faults)
            }),
        ];
        if self.mutation == Mutation::None {
            // The model would be right without a step in it: these say that it gets somewhere.
            properties.extend(reached(self.faults));
        }
        properties
    }
}

impl Protocol {
    fn request_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (id, request) in (0..).zip(&state.requests) {
            if request.phase == Phase::Unsent {
                let processes = (0..state.processes.len())
                    .filter(|process| state.processes[*process] == Process::Awake);
                for process in processes {
                    for call in calls(state, Some(Step::Begin)) {
                        actions.push(Action::Send(id, process, call));
                    }
                }
                // Requests that are not sent are all alike: the first of them will do.
                break;
            }
            if !state.is_awake(request) {
                continue;
            }
            if request.has_step() {
                let step = Layer::next_call(request, self.mutation);
                actions.extend(calls(state, step).map(|call| Action::Next(id, call)));
            }
            if request.phase == Phase::Begun {
                // Its client leaves before the handler is called.
                actions.push(Action::End(id, End::Panic));
            }
            if request.phase == Phase::Running {
                for end in [End::Response, End::NotKept, End::Panic] {
                    actions.push(Action::End(id, end));
                }
            }
        }
    }
}

fn calls(state: &State, step: Option<Step>) -> impl Iterator<Item = Call> {
    let may_time_out = step.is_some() && state.store_is_up && state.left.timeouts > 0;
    let may_be_full = step == Some(Step::Begin) && state.store_is_up && state.left.refusals > 0;
    [
        Some(Call::Answered),
        may_time_out.then_some(Call::TimedOut),
        may_be_full.then_some(Call::Full),
    ]
    .into_iter()
    .flatten()
}

fn reached(faults: Faults) -> Vec<Property<Protocol>> {
    fn any(state: &State, is: impl Fn(&Request) -> bool) -> bool {
        state.requests.iter().any(is)
    }
    fn two_run(state: &State, excuse: Excuse) -> bool {
        let running = state.requests.iter().filter(|r| r.phase == Phase::Running);
        running.clone().count() > 1 && running.clone().any(|r| r.excuse == Some(excuse))
    }
    fn done(state: &State, outcome: Outcome) -> bool {
        any(state, |r| r.phase == Phase::Done(outcome))
    }
    let mut reached = vec![
        Property::sometimes("a retry gets the record", |_, s: &State| {
            done(s, Outcome::Replayed)
        }),
        Property::sometimes("a concurrent request is refused", |_, s: &State| {
            done(s, Outcome::InProgress)
        }),
        Property::sometimes("a response is kept in the background", |_, s: &State| {
            done(s, Outcome::KeptInBackground)
        }),
        Property::sometimes("a lost lease lets two run", |_, s: &State| {
            two_run(s, Excuse::LeaseLost)
        }),
        Property::sometimes("a store that fails lets two run", |_, s: &State| {
            two_run(s, Excuse::FailedOpen)
        }),
        Property::sometimes("a record ends and the key is used again", |_, s: &State| {
            done(s, Outcome::RecordEnded) && done(s, Outcome::Kept)
        }),
    ];
    if faults.timeouts > 0 {
        reached.push(Property::sometimes(
            "a handler runs under a claim whose answer was lost",
            |_, s: &State| {
                let Slot::Claimed { owner, .. } = s.slot else {
                    return false;
                };
                let owner = &s.requests[usize::from(owner)];
                owner.phase == Phase::Running && owner.known == Known::Unknown
            },
        ));
    }
    if faults.crashes > 0 {
        reached.push(Property::sometimes(
            "a key whose process died is used again",
            |model: &Protocol, s: &State| {
                s.left.crashes < model.faults.crashes && done(s, Outcome::Kept)
            },
        ));
    }
    reached
}

pub(crate) const OVERLAP: &str =
    "two handlers overlap only after a lease was really lost or the store failed";
pub(crate) const SECOND_RUN: &str = "a handler that gave its response runs again only after a crash, a lost lease or a failed store";
pub(crate) const RECORD: &str = "a record is never changed before its ttl";
pub(crate) const REPLAY: &str = "a replay is the first response that was completed";
pub(crate) const KEPT: &str = "a response that is called kept is the one that is kept";
pub(crate) const FREED: &str = "without a fault, no key is claimed by a request that is done";
pub(crate) const STUCK: &str = "no key stays claimed longer than a lease after its owner died";
