//! What happened in a history, and the rules that it must have kept to.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use http::{HeaderMap, Method, Uri};
use tokio::time::Instant;
use tower_idempotency::RecordKey;
use tower_idempotency::store::{Fingerprint, Owner, Record};

use crate::action::{Fault, Step};
use crate::claim::{Claimant, Completion, Told};
use crate::script::{BodyEnd, Script, UploadKind, Verdict};

/// How often what happened.
pub(crate) type Tally = std::collections::BTreeMap<&'static str, usize>;

/// All that is known of a history, from the side of the store, of the handler, and of the clients.
#[derive(Default)]
pub(crate) struct World {
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) runs: Vec<Run>,
    pub(crate) owners: HashMap<Owner, Claimant>,
    /// The last answer to `begin`: a handler runs right after it, or never.
    last_told: Option<(RecordKey, Owner)>,
    faults: VecDeque<(Step, Fault, u8)>,
    /// The client whose future is being polled.
    polled: Option<usize>,
    gone: HashSet<usize>,
    /// How many ready services have not been called or dropped.
    pub(crate) reserved: usize,
    violations: Vec<String>,
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

    pub(crate) fn inject(&self, step: Step, fault: Fault, times: u8) {
        self.state().faults.push_back((step, fault, times));
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

    // What the store does.

    pub(crate) fn next_fault(&self, step: Step, owner: Owner) -> Option<Fault> {
        let state = &mut *self.state();
        let at = state.faults.iter().position(|(of, _, _)| *of == step)?;
        let (_, fault, times) = &mut state.faults[at];
        let fault = *fault;
        *times -= 1;
        if *times == 0 {
            state.faults.remove(at);
        }
        // Only what is refused at once leaves a claim or a record where it was.
        let owner = state.owners.get_mut(&owner)?;
        match fault {
            Fault::Slow(millis) => owner.slow += Duration::from_millis(millis.into()),
            fault => owner.faults.push((step, fault)),
        }
        Some(fault)
    }

    pub(crate) fn forgot(&self) {
        let state = &mut *self.state();
        for owner in state.owners.values_mut() {
            match &mut owner.completed {
                Some(completion) => completion.forgotten = true,
                None => owner.uprooted |= !owner.released,
            }
        }
    }

    pub(crate) fn asked(&self, key: RecordKey, owner: Owner) {
        let state = &mut *self.state();
        let claimant = Claimant {
            key,
            client: state.polled,
            told: None,
            claimed: false,
            faults: Vec::new(),
            slow: Duration::ZERO,
            uprooted: false,
            completed: None,
            released: false,
        };
        if state.owners.insert(owner, claimant).is_some() {
            let rule = format!("{owner:?} asked for a key twice");
            state.violations.push(rule);
        }
    }

    pub(crate) fn claimed(&self, owner: Owner) {
        if let Some(owner) = self.state().owners.get_mut(&owner) {
            owner.claimed = true;
        }
    }

    pub(crate) fn told(&self, key: RecordKey, owner: Owner, told: Told) {
        let state = &mut *self.state();
        state.last_told = Some((key, owner));
        if let Told::Completed(record) = &told {
            let mut owners = state.owners.values().filter(|owner| owner.key == key);
            let is_there =
                |completion: &Completion| completion.record == *record && completion.is_live();
            if !owners.any(|owner| owner.completed.as_ref().is_some_and(is_there)) {
                let rule = format!("the store gave a record that it should not have: {record:?}");
                state.violations.push(rule);
            }
        }
        if let Some(owner) = state.owners.get_mut(&owner) {
            owner.told = Some(told);
        }
    }

    pub(crate) fn completed(&self, owner: Owner, record: &Record) {
        let state = &mut *self.state();
        let run = state.runs.iter().position(|run| run.owner == owner);
        let rule = match run {
            None => Some("a key was completed without a run".to_owned()),
            Some(run) => state.what_is_wrong_with(run, record),
        };
        state.violations.extend(rule);
        if let Some(owner) = state.owners.get_mut(&owner) {
            owner.completed = Some(Completion {
                at: Instant::now(),
                record: record.clone(),
                forgotten: false,
            });
        }
    }

    pub(crate) fn released(&self, owner: Owner) {
        let state = &mut *self.state();
        let run = state.runs.iter().position(|run| run.owner == owner);
        let kept = run.and_then(|run| match state.runs[run].verdict(run) {
            Verdict::Kept(_) => Some(run),
            Verdict::NotKept(_) | Verdict::GivenUp => None,
        });
        if let Some(run) = kept {
            let rule = format!("the key of run {run} was released, whose response is to be kept");
            state.violations.push(rule);
        }
        if let Some(owner) = state.owners.get_mut(&owner) {
            owner.released = true;
        }
    }

    /// The store said that a claim is not held.
    pub(crate) fn lost(&self, owner: Owner, step: Step) {
        let state = &mut *self.state();
        let Some(claimant) = state.owners.get(&owner) else {
            return;
        };
        // A settlement that fails after it was taken is tried again, and one that is under way may
        // be overtaken by a renewal.
        if !claimant.is_excused() && !claimant.is_settled() {
            let run = state.runs.iter().position(|run| run.owner == owner);
            let run = run.map_or("a request".to_owned(), |run| format!("run {run}"));
            let rule = format!("{run} lost its lease before {step:?}, but not by any fault");
            state.violations.push(rule);
        }
    }

    // What the handler does.

    /// Begins a run, and says which it is.
    pub(crate) fn run(
        &self,
        client: usize,
        key: RecordKey,
        fingerprint: Fingerprint,
        call: Call,
    ) -> usize {
        let state = &mut *self.state();
        let id = state.runs.len();
        if state.gone.contains(&client) {
            let rule = format!("run {id} began although its client had left");
            state.violations.push(rule);
        }
        let last = state.last_told.take().filter(|(told, _)| *told == key);
        let Some((_, owner)) = last else {
            state.violations.push(format!("run {id} without asking"));
            return id;
        };
        let claim = &state.owners[&owner];
        match claim.told.clone() {
            // A store that fails, or lies, lets the handler run.
            Some(Told::Failure) => {}
            Some(Told::Started) if !claim.claimed => {}
            Some(Told::Started) => {
                for (other, run) in state.runs.iter().enumerate() {
                    if run.key != key {
                        continue;
                    }
                    let claim = &state.owners[&run.owner];
                    let rule = if claim.is_excused() {
                        continue;
                    } else if let Some(completion) = &claim.completed {
                        completion.is_live().then_some("is kept")
                    } else {
                        (!claim.released).then_some("is not over")
                    };
                    if let Some(rule) = rule {
                        let rule = format!("run {id} although run {other} of its key {rule}");
                        state.violations.push(rule);
                        break;
                    }
                }
            }
            told => {
                let rule = format!("run {id} although the store said {told:?}");
                state.violations.push(rule);
            }
        }
        state.runs.push(Run {
            client,
            key,
            fingerprint,
            owner,
            upload_is_broken: call.script.reads_upload && call.upload == UploadKind::Broken,
            script: call.script,
            is_over: false,
        });
        id
    }

    pub(crate) fn run_is_over(&self, run: usize) {
        if let Some(run) = self.state().runs.get_mut(run) {
            run.is_over = true;
        }
    }

    // What is true at the end, when nothing is under way any more.

    pub(crate) fn check_the_end(&self) {
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
        if state.reserved != 0 {
            rules.push(format!("{} services are still reserved", state.reserved));
        }
        state.violations.extend(rules);
    }

    /// Tells whether a claim of this key may last until its lease ends, although nobody works on it.
    pub(crate) fn may_be_stuck(&self, key: RecordKey) -> bool {
        let state = self.state();
        let mut claims = state.owners.values();
        claims.any(|claim| claim.key == key && claim.claimed && claim.is_excused())
    }
}

/// A call of the handler.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) script: Script,
    pub(crate) upload: UploadKind,
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

    fn may_be_cut(&self, run: usize) -> bool {
        let Run {
            client,
            script,
            upload_is_broken,
            ..
        } = &self.runs[run];
        self.gone.contains(client) && script.may_be_cut(run, *upload_is_broken)
    }

    /// Names what is wrong with the record of a run.
    fn what_is_wrong_with(&self, id: usize, record: &Record) -> Option<String> {
        let run = &self.runs[id];
        let Some(answer) = run.script.answer() else {
            return Some(format!("run {id} has no response, but it was kept"));
        };
        let body = record.body();
        let body_is_right = match run.verdict(id) {
            Verdict::Kept(expected) if body == expected => true,
            Verdict::Kept(_) => {
                let room = !self.owners[&run.owner].was_refused_for_room();
                body.is_none() && (!room || self.may_be_cut(id))
            }
            Verdict::NotKept(_) | Verdict::GivenUp => body.is_none() && self.may_be_cut(id),
        };
        let fields: HeaderMap = record.fields().collect_map();
        let is_right = body_is_right
            && record.status() == answer.status
            && fields == answer.kept_headers(id)
            && record.fingerprint() == run.fingerprint;
        (!is_right).then(|| format!("the record of run {id} is wrong: {record:?}, {body:?}"))
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
