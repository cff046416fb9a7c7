//! The state of the model: a store, some processes, and the requests that they have been sent.

use crate::request::{Excuse, HINDERED, Known, Outcome, Phase, Request};
use crate::store::{Id, LEASE, Slot, Step, TTL};

/// Everything that a step may depend on, and what the properties ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) slot: Slot,
    pub(crate) store_is_up: bool,
    pub(crate) processes: [Process; MOST],
    pub(crate) requests: [Request; MOST],
    /// Calls that were given up, and that reach the store at some time or never. If one arrives at
    /// once, only its answer was lost. Sorted, since the network keeps no order.
    pub(crate) late: Vec<(Id, Step)>,
    /// How much more may go wrong.
    pub(crate) left: Faults,
    pub(crate) promise: Option<Promise>,
    /// For how many ticks nobody has been there who could settle the claim.
    pub(crate) abandoned: u8,
    pub(crate) wrong: Wrong,
}

/// What may go wrong in one history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    /// Calls that are given up; they may reach the store all the same.
    pub(crate) timeouts: u8,
    /// Times at which the store refuses all calls.
    pub(crate) outages: u8,
    /// Claims for which the store has no room.
    pub(crate) refusals: u8,
    pub(crate) pauses: u8,
    pub(crate) crashes: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Process {
    Awake,
    /// Does nothing and does not notice, like a stopped virtual machine or a blocked thread.
    Paused,
    Dead,
}

/// The first response that was completed, and for how long it must stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Promise {
    pub(crate) response: Id,
    pub(crate) left: u8,
}

/// What the last step did that the state after it does not show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wrong {
    pub(crate) overlap: bool,
    pub(crate) second_run: bool,
    pub(crate) replay: bool,
    pub(crate) kept: bool,
}

impl State {
    pub(crate) fn new(processes: usize, requests: usize, faults: Faults) -> Self {
        let mut state = Self {
            slot: Slot::Absent,
            store_is_up: true,
            processes: [Process::Dead; MOST],
            requests: [Request::UNSENT; MOST],
            late: Vec::new(),
            left: faults,
            promise: None,
            abandoned: 0,
            wrong: Wrong::default(),
        };
        state.processes[..processes].fill(Process::Awake);
        state.requests[requests..].fill_with(|| Request {
            phase: Phase::Done(Outcome::Other),
            ..Request::UNSENT
        });
        state
    }

    /// Gives states with the same future the same form, so that they are explored once.
    pub(crate) fn normalize(&mut self) {
        for request in &mut self.requests {
            if request.excuse.is_some() {
                request.hindered = 0;
            }
            if matches!(request.phase, Phase::Done(_)) && !request.ran {
                request.excuse = None;
            }
        }
        // Which process is which does not matter: those with a request come first, in its order.
        let mut order: [usize; MOST] = std::array::from_fn(|process| process);
        let first = |process: usize| {
            let mut requests = self.requests.iter();
            let first = requests.position(|r| r.is_active() && r.process == process);
            (first.unwrap_or(MOST), self.processes[process])
        };
        order.sort_by_key(|process| first(*process));
        self.processes = order.map(|process| self.processes[process]);
        for request in &mut self.requests {
            if request.is_active() {
                let process = order.iter().position(|process| *process == request.process);
                request.process = process.unwrap_or_default();
            }
        }
    }

    pub(crate) fn request(&mut self, id: Id) -> &mut Request {
        &mut self.requests[usize::from(id)]
    }

    pub(crate) fn is_awake(&self, request: &Request) -> bool {
        self.processes[request.process] == Process::Awake
    }

    /// Returns whether a process that is awake has something to do at once.
    pub(crate) fn is_busy(&self) -> bool {
        let mut requests = self.requests.iter();
        requests.any(|request| request.has_step() && self.is_awake(request))
    }

    /// Lets a third of a lease pass.
    pub(crate) fn tick(&mut self) {
        for request in &mut self.requests {
            if request.is_active() && self.processes[request.process] == Process::Paused {
                request.hindered = (request.hindered + 1).min(HINDERED);
            }
            request.due = request.due.map(|due| due.saturating_sub(1));
            if let Phase::Done(outcome) = &mut request.phase {
                if *outcome != Outcome::RecordEnded {
                    *outcome = Outcome::Other;
                }
            }
            if let Phase::Settling { since, .. } = &mut request.phase {
                *since = (*since + 1).min(LEASE);
            }
        }
        self.promise = self.promise.and_then(|promise| {
            let left = promise.left - 1;
            (left > 0).then_some(Promise { left, ..promise })
        });
        match self.slot.tick() {
            Some(Slot::Claimed { owner, .. }) => {
                let request = self.request(owner);
                if request.hindered >= HINDERED {
                    request.excuse = request.excuse.or(Some(Excuse::LeaseLost));
                }
            }
            Some(Slot::Completed { response, .. }) => {
                self.requests.iter_mut().for_each(|r| r.ran = false);
                let request = self.request(response);
                if !request.is_active() {
                    request.finish(Outcome::RecordEnded);
                }
            }
            Some(Slot::Absent) | None => {}
        }
        self.abandoned = match self.slot {
            Slot::Claimed { owner, .. } if self.is_abandoned(owner) => self.abandoned + 1,
            _ => 0,
        };
    }

    /// Returns whether nothing from this owner can reach the store any more.
    fn is_abandoned(&self, owner: Id) -> bool {
        let is_late = self.late.iter().any(|(late, _)| *late == owner);
        !self.requests[usize::from(owner)].is_active() && !is_late
    }

    /// Ends all that runs in a process.
    pub(crate) fn crash(&mut self, process: usize) {
        self.processes[process] = Process::Dead;
        for request in &mut self.requests {
            if request.is_active() && request.process == process {
                if request.ran {
                    request.excuse = request.excuse.or(Some(Excuse::Crashed));
                }
                request.finish(Outcome::Other);
            }
        }
    }

    /// Notes what an owner's step in the store means for the properties.
    pub(crate) fn note_step(&mut self, by: Id, step: Step, before: Slot) {
        if step == Step::Complete && before == Slot::Absent {
            // Nobody has claimed the key since: nothing excuses a second run any more.
            self.request(by).excuse = None;
        }
        if let (Slot::Absent | Slot::Claimed { .. }, Slot::Completed { response, .. }) =
            (before, self.slot)
        {
            let left = TTL;
            self.promise.get_or_insert(Promise { response, left });
        }
        if matches!(self.slot, Slot::Claimed { owner, .. } if owner == by) {
            self.abandoned = 0;
        }
    }

    /// Notes whether the run that begins is one too many.
    pub(crate) fn note_run(&mut self, id: Id) {
        let holds = matches!(self.slot, Slot::Claimed { owner, .. } if owner == id);
        let request = self.request(id);
        if !holds && request.known != Known::Held {
            request.excuse = request.excuse.or(Some(Excuse::FailedOpen));
        }
        if request.excuse.is_some() {
            return;
        }
        let others = self.requests.iter().enumerate();
        let others = others.filter(|(other, _)| *other != usize::from(id));
        let mut wrong = self.wrong;
        for (_, other) in others.filter(|(_, other)| other.excuse.is_none()) {
            wrong.overlap |= other.phase == Phase::Running;
            wrong.second_run |= other.ran;
        }
        self.wrong = wrong;
    }
}

/// The greatest number of processes, and of requests.
pub(crate) const MOST: usize = 3;
