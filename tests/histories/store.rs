//! The store: a memory store that fails, hangs, lies or forgets on command, and what it did.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::HeaderMap;
use support::{Call, Director, Fault, Reply, Scripted, Step};
use tokio::time::Instant;
use tower_idempotency::store::{Begin, Claim, Owner, Record};
use tower_idempotency::{MemoryStore, RecordKey, Store as _};

use crate::claim::{Claimant, Completion, Told};
use crate::script::Verdict;
use crate::world::{CollectMap, Run, State, World};

pub(crate) type Store = Scripted<World>;

impl Director for World {
    fn fault(&self, step: &Step<'_>) -> Option<Fault> {
        if step.call == Call::Begin {
            self.asked(*step.key, step.owner);
        }
        self.next_fault(step.call, step.owner)
    }

    fn memory(&self, _: &MemoryStore) -> MemoryStore {
        self.memory.lock().unwrap().clone()
    }

    fn taken(&self, step: &Step<'_>, reply: Reply<'_>) {
        match (step.call, step.record) {
            (Call::Begin, _) if reply.is_held() => self.claimed(step.owner),
            (Call::Complete, Some(record)) if reply.is_held() => self.completed(step.owner, record),
            (Call::Release, _) if reply.is_held() => self.released(step.owner),
            (Call::Complete | Call::Renew | Call::Release, record) if !reply.is_held() => {
                self.lost(step.owner, step.call);
                if let (Some(record), Reply::Held(_)) = (record, reply) {
                    self.check_refused(step.key, record);
                }
            }
            _ => {}
        }
    }

    /// The layer learns what it is told at this moment, also when it gives up waiting.
    fn replied(&self, step: &Step<'_>, reply: Option<Reply<'_>>) {
        if step.call == Call::Begin {
            let told = match reply {
                Some(Reply::Begun(Begin::Started)) => Told::Started,
                Some(Reply::Begun(Begin::InProgress(fingerprint))) => {
                    Told::InProgress(*fingerprint)
                }
                Some(Reply::Begun(Begin::Completed(record))) => Told::Completed(record.clone()),
                _ => Told::Failure,
            };
            self.told(*step.key, step.owner, told);
        }
    }
}

impl World {
    fn next_fault(&self, call: Call, owner: Owner) -> Option<Fault> {
        let state = &mut *self.state();
        let at = state.faults.iter().position(|(of, _, _)| *of == call)?;
        let (_, fault, times) = &mut state.faults[at];
        let fault = *fault;
        *times -= 1;
        if *times == 0 {
            state.faults.remove(at);
        }
        // Only what is refused at once leaves a claim or a record where it was.
        let owner = state.owners.get_mut(&owner)?;
        match fault {
            Fault::Late(time) => owner.slow += time,
            fault => owner.faults.push((call, fault)),
        }
        Some(fault)
    }

    /// Loses all that the store has.
    pub(crate) fn forget(&self) {
        *self.memory.lock().unwrap() = MemoryStore::new();
        let state = &mut *self.state();
        for owner in state.owners.values_mut() {
            match &mut owner.completed {
                Some(completion) => completion.forgotten = true,
                None => owner.uprooted |= !owner.released,
            }
        }
    }

    /// A completion may be refused only if somebody else has the key, or a record is there.
    fn check_refused(&self, key: &RecordKey, record: &Record) {
        let memory = self.memory.lock().unwrap().clone();
        // A claim without a lease finds that out. The memory store is never pending.
        let look = Claim::new(Owner::new(), record.fingerprint());
        let look = pin!(memory.begin(key, &look, Duration::ZERO));
        let found = look.poll(&mut Context::from_waker(Waker::noop()));
        if matches!(found, Poll::Ready(Ok(Begin::Started))) {
            let rule = "a completion was refused although nobody else had the key";
            self.violated(rule.to_owned());
        }
    }

    fn asked(&self, key: RecordKey, owner: Owner) {
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

    fn claimed(&self, owner: Owner) {
        if let Some(owner) = self.state().owners.get_mut(&owner) {
            owner.claimed = true;
        }
    }

    fn told(&self, key: RecordKey, owner: Owner, told: Told) {
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

    fn completed(&self, owner: Owner, record: &Record) {
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

    fn released(&self, owner: Owner) {
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
    fn lost(&self, owner: Owner, call: Call) {
        let state = &mut *self.state();
        let Some(claimant) = state.owners.get(&owner) else {
            return;
        };
        // A settlement that fails after it was taken is tried again, and one that is under way may
        // be overtaken by a renewal.
        if !claimant.is_excused() && !claimant.is_settled() {
            let run = state.runs.iter().position(|run| run.owner == owner);
            let run = run.map_or("a request".to_owned(), |run| format!("run {run}"));
            let rule = format!("{run} lost its lease before {call:?}, but not by any fault");
            state.violations.push(rule);
        }
    }
}

impl State {
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
