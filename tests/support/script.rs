//! What goes wrong in a store, call by call.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use tower_idempotency::store::StoreErrorKind;

use crate::store::{Call, Director, Scripted, Step};

/// How a call goes wrong, or slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The step is not taken.
    Fail(StoreErrorKind),
    Hang,
    /// The step is taken, but its reply is lost.
    FailAfter(StoreErrorKind),
    HangAfter,
    /// The step is said to be taken, but is not.
    Lie,
    /// The step is taken after being pending so many times.
    Pend(usize),
    /// The step is taken after this time.
    Late(Duration),
    /// The step is taken, but its reply comes after this time.
    LateReply(Duration),
}

/// What a test has said of the calls to come, and the calls so far.
#[derive(Default)]
pub struct Script(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    calls: Vec<Call>,
    next: HashMap<Call, VecDeque<Fault>>,
    always: HashMap<Call, Fault>,
}

impl Scripted {
    /// Lets the next call that is not spoken for go wrong.
    pub fn once(&self, call: Call, fault: Fault) {
        let mut lines = self.director.0.lock().unwrap();
        lines.next.entry(call).or_default().push_back(fault);
    }

    /// Lets all calls go wrong that are not spoken for.
    pub fn always(&self, call: Call, fault: Fault) {
        self.director.0.lock().unwrap().always.insert(call, fault);
    }

    /// Lets all calls go well from now on.
    pub fn heal(&self) {
        let mut lines = self.director.0.lock().unwrap();
        lines.next.clear();
        lines.always.clear();
    }

    /// Returns the calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.director.0.lock().unwrap().calls.clone()
    }
}

impl Director for Script {
    fn fault(&self, step: &Step<'_>) -> Option<Fault> {
        let mut lines = self.0.lock().unwrap();
        lines.calls.push(step.call);
        let next = lines.next.get_mut(&step.call);
        next.and_then(VecDeque::pop_front)
            .or_else(|| lines.always.get(&step.call).copied())
    }
}
