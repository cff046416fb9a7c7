//! What a run has seen, for whoever reads its output.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What all clients and all trouble together have seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) tries: AtomicUsize,
    pub(crate) twins: AtomicUsize,
    pub(crate) left: AtomicUsize,
    pub(crate) broken: AtomicUsize,
    pub(crate) refused: AtomicUsize,
    pub(crate) kills: AtomicUsize,
    pub(crate) stops: AtomicUsize,
    pub(crate) killed_while_stopped: AtomicUsize,
    pub(crate) restarts: AtomicUsize,
    pub(crate) server_stops: AtomicUsize,
    /// How often there was an answer of this status, outcome, and kind.
    answers: Mutex<BTreeMap<String, usize>>,
    /// The successes that clients were answered: which entry each operation is said to be.
    pub(crate) successes: Mutex<Vec<(u64, i64)>>,
    violations: Mutex<Vec<String>>,
    longest: Mutex<Duration>,
}

impl Seen {
    pub(crate) fn violated(&self, rule: String) {
        self.violations.lock().unwrap().push(rule);
    }

    pub(crate) fn answered(&self, answer: String) {
        *self.answers.lock().unwrap().entry(answer).or_default() += 1;
    }

    /// Notes what an operation took, up to its answer.
    pub(crate) fn took(&self, time: Duration) {
        let mut longest = self.longest.lock().unwrap();
        *longest = time.max(*longest);
    }

    pub(crate) fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut self.violations.lock().unwrap())
    }

    pub(crate) fn print(&self, name: &str) {
        let of = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        println!(
            "{name}:   {} tries, {} operations by two clients at once; the longest took {:.1?}\n\
             {name}:   no answer: {} clients left, {} connections broke, {} were refused\n\
             {name}:   {} kills, {} stops for longer than a lease, {} of them ended by a kill, \
             {} kills of the server, {} stops",
            of(&self.tries),
            of(&self.twins),
            self.longest.lock().unwrap(),
            of(&self.left),
            of(&self.broken),
            of(&self.refused),
            of(&self.kills),
            of(&self.stops),
            of(&self.killed_while_stopped),
            of(&self.restarts),
            of(&self.server_stops),
        );
        let answers = self.answers.lock().unwrap();
        let answers = answers
            .iter()
            .map(|(answer, times)| format!("{times} × {answer}"));
        println!(
            "{name}:   answers: {}",
            answers.collect::<Vec<_>>().join(", ")
        );
    }
}

pub(crate) fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::SeqCst);
}
