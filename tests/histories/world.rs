//! What is known of a history. `store` and `handler` say what happens on their sides, and which rules
//! that must keep to.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};

use http::{HeaderMap, Method, Uri};
use support::{Call, Fault};
use tower_idempotency::store::{Fingerprint, Owner};
use tower_idempotency::{MemoryStore, RecordKey};

use crate::claim::Claimant;
use crate::script::{BodyEnd, Script, Verdict};

/// How often what happened.
pub(crate) type Tally = std::collections::BTreeMap<&'static str, usize>;

/// All that is known of a history, from the side of the store, of the handler, and of the clients.
#[derive(Default)]
pub(crate) struct World {
    state: Mutex<State>,
    /// What the store has: another memory each time that it forgets all.
    pub(crate) memory: Mutex<MemoryStore>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) runs: Vec<Run>,
    pub(crate) owners: HashMap<Owner, Claimant>,
    /// The last answer to `begin`: a handler runs right after it, or never.
    pub(crate) last_told: Option<(RecordKey, Owner)>,
    pub(crate) faults: VecDeque<(Call, Fault, u8)>,
    /// The client whose future is being polled.
    pub(crate) polled: Option<usize>,
    pub(crate) gone: HashSet<usize>,
    pub(crate) violations: Vec<String>,
}

/// One run of the handler.
pub(crate) struct Run {
    pub(crate) client: usize,
    pub(crate) key: RecordKey,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) owner: Owner,
    pub(crate) script: Script,
    pub(crate) upload_is_broken: bool,
    pub(crate) is_over: bool,
}

impl World {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn violated(&self, rule: String) {
        self.state().violations.push(rule);
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.state().violations.first().cloned()
    }

    // What the driver does.

    pub(crate) fn poll_as<T>(&self, client: usize, poll: impl FnOnce() -> T) -> T {
        self.state().polled = Some(client);
        let polled = poll();
        self.state().polled = None;
        polled
    }

    pub(crate) fn left(&self, client: usize) {
        self.state().gone.insert(client);
    }

    pub(crate) fn inject(&self, call: Call, fault: Fault, times: u8) {
        self.state().faults.push_back((call, fault, times));
    }

    /// Adds up what happened.
    pub(crate) fn tally(&self, tally: &mut Tally) {
        let state = self.state();
        let mut add = |what, count: usize| *tally.entry(what).or_default() += count;
        add("runs", state.runs.len());
        add("clients that left", state.gone.len());
        add("keys asked for", state.owners.len());
        for owner in state.owners.values() {
            add("faults of the store", owner.faults.len());
            add(
                "leases lost or records forgotten",
                usize::from(owner.uprooted),
            );
        }
    }

    pub(crate) fn mend(&self) {
        self.state().faults.clear();
    }

    pub(crate) fn froze(&self) {
        let state = &mut *self.state();
        let held = state
            .owners
            .values_mut()
            .filter(|owner| !owner.is_settled());
        held.for_each(|owner| owner.uprooted = true);
    }

    // What is true at the end, when nothing is under way any more.

    pub(crate) fn check_the_end(&self, reserved: usize) {
        let state = &mut *self.state();
        let mut rules = Vec::new();
        for (id, run) in state.runs.iter().enumerate() {
            let claim = &state.owners[&run.owner];
            if !run.is_over {
                rules.push(format!("run {id} did not come to its end"));
            }
            if claim.is_excused() {
                continue;
            }
            if !claim.is_settled() {
                rules.push(format!("run {id} is over, but its key was not settled"));
            }
        }
        if reserved != 0 {
            rules.push(format!("{reserved} services are still reserved"));
        }
        state.violations.extend(rules);
    }

    /// Returns whether a claim of this key may last until its lease ends, although nobody works on it.
    pub(crate) fn may_be_stuck(&self, key: RecordKey) -> bool {
        let state = self.state();
        let mut claims = state.owners.values();
        claims.any(|claim| claim.key == key && claim.claimed && claim.is_excused())
    }
}

impl State {
    pub(crate) fn owner_of(&self, client: usize) -> Option<&Claimant> {
        let mut owners = self.owners.values();
        owners.find(|owner| owner.client == Some(client))
    }

    pub(crate) fn run_of(&self, client: usize) -> Option<(usize, &Run)> {
        let mut runs = self.runs.iter().enumerate();
        runs.find(|(_, run)| run.client == client)
    }
}

impl Run {
    pub(crate) fn verdict(&self, id: usize) -> Verdict {
        self.script.verdict(id, self.upload_is_broken)
    }

    pub(crate) fn body_end(&self) -> Option<BodyEnd> {
        self.script.answer().map(|answer| answer.body.end)
    }
}

pub(crate) fn fingerprint(target: &'static str) -> Fingerprint {
    Fingerprint::new(&Method::POST, &Uri::from_static(target))
}

/// Collects header fields, repeated ones in their order.
pub(crate) trait CollectMap {
    fn collect_map(self) -> HeaderMap;
}

impl<I: Iterator<Item = (http::HeaderName, http::HeaderValue)>> CollectMap for I {
    fn collect_map(self) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in self {
            map.append(name, value);
        }
        map
    }
}
