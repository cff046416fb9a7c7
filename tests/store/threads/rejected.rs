//! The checker rejects histories and stores that are wrong, and accepts similar ones that are
//! right.

use std::collections::HashMap;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tower_idempotency::store::{Begin, Claim, Owner, Ownership, Record};
use tower_idempotency::{RecordKey, Store, StoreError};

use super::checker::{History, check};
use super::history::{Answer, Call, Step, call};
use super::run::{Run, at_once, histories};

fn at(called: u64, answered: u64, step: Step, answer: Answer) -> Call {
    Call {
        step,
        answer,
        called,
        answered,
    }
}

fn begin(owner: u8, lease: u64) -> Step {
    let request = u32::from(owner);
    Step::Begin {
        owner,
        request,
        lease,
    }
}

fn complete(owner: u8, record: u32, ttl: u64) -> Step {
    Step::Complete { owner, record, ttl }
}

fn renew(owner: u8, lease: u64) -> Step {
    Step::Renew { owner, lease }
}

fn release(owner: u8) -> Step {
    Step::Release { owner }
}

#[track_caller]
fn assert_verdict(is_right: bool, history: &[&[Call]]) {
    let history: History = history.iter().map(|calls| calls.to_vec()).collect();
    let verdict = check(&history);
    assert_eq!(verdict.is_ok(), is_right, "{history:#?} {verdict:#?}");
}

#[test]
fn two_claims_that_both_start_are_right_only_if_the_first_may_be_over() {
    let first = at(10, 20, begin(1, 100), Answer::Started);
    for (called, answered, is_right) in [
        (15, 25, false),
        (30, 109, false),
        // The first claim was made at 10 at the earliest.
        (30, 110, true),
        (500, 510, true),
    ] {
        let second = at(called, answered, begin(2, 100), Answer::Started);
        assert_verdict(is_right, &[&[first], &[second]]);
    }
}

#[test]
fn concurrent_calls_may_take_effect_in_any_order_and_others_only_in_their_own() {
    let started = at(10, 40, begin(1, 1000), Answer::Started);
    let found = |called, answered| {
        at(
            called,
            answered,
            begin(2, 1000),
            Answer::InProgress { request: 1 },
        )
    };
    assert_verdict(true, &[&[started], &[found(20, 30)]]);
    assert_verdict(true, &[&[started], &[found(50, 60)]]);
    assert_verdict(false, &[&[started], &[found(1, 9)]]);
    let released = at(50, 60, release(1), Answer::Yes);
    assert_verdict(true, &[&[started, released], &[found(55, 65)]]);
    assert_verdict(false, &[&[started, released], &[found(61, 65)]]);
    // Once one has seen the release, nobody may see the claim any more.
    let freed = at(52, 54, begin(3, 0), Answer::Full);
    assert_verdict(true, &[&[started, released], &[found(51, 53)], &[freed]]);
    assert_verdict(false, &[&[started, released], &[found(55, 56)], &[freed]]);
}

#[test]
fn a_lease_ends_neither_early_nor_late() {
    let started = at(10, 20, begin(1, 100), Answer::Started);
    let found = |at_| at(at_, at_ + 1, begin(2, 0), Answer::InProgress { request: 1 });
    assert_verdict(true, &[&[started, found(119)]]);
    assert_verdict(false, &[&[started, found(120)]]);
    let lost = |at_| at(at_, at_ + 1, renew(1, 100), Answer::Lost);
    assert_verdict(true, &[&[started, lost(110)]]);
    assert_verdict(false, &[&[started, lost(108)]]);
    // The next answer can't contradict what one answer shows of the end.
    assert_verdict(true, &[&[started, found(112), lost(115)]]);
    assert_verdict(false, &[&[started, lost(112), found(115)]]);
}

#[test]
fn a_renewal_that_was_late_must_not_set_a_lease_back() {
    let started = at(0, 1, begin(1, 1000), Answer::Started);
    let stalled = at(10, 900, renew(1, 300), Answer::Yes);
    let renewed = at(800, 810, renew(1, 5000), Answer::Yes);
    let taken = |called| at(called, called + 1, begin(2, 100), Answer::Started);
    assert_verdict(false, &[&[started, stalled, taken(1050)], &[renewed]]);
    assert_verdict(true, &[&[started, stalled, taken(1100)], &[renewed]]);
}

#[test]
fn a_late_completion_must_be_kept_unless_another_holds_the_key_or_a_record_is_there() {
    let started = at(0, 1, begin(1, 100), Answer::Started);
    for (called, answer, is_right) in [
        (50, Answer::Yes, true),
        (500, Answer::Yes, true),
        (50, Answer::Full, true),
        (500, Answer::Full, true),
        (50, Answer::Lost, false),
        (500, Answer::Lost, false),
    ] {
        let own = at(called, called + 1, complete(1, 7, 1000), answer);
        assert_verdict(is_right, &[&[started, own]]);
        let unclaimed = at(called, called + 1, complete(2, 7, 1000), answer);
        assert_verdict(is_right, &[&[unclaimed]]);
        // While the lease of another lasts, it is the other way round.
        let of_another = is_right == (called > 100);
        assert_verdict(of_another, &[&[started, unclaimed]]);
    }
    let completed = at(500, 501, complete(1, 7, 1000), Answer::Yes);
    let found = |at_| at(at_, at_ + 1, begin(2, 0), Answer::Completed { record: 7 });
    assert_verdict(true, &[&[started, completed, found(1500)]]);
    assert_verdict(false, &[&[started, completed, found(1501)]]);
    // A refusal shows that the lease still lasts.
    let refused = at(100, 101, complete(2, 8, 1000), Answer::Lost);
    let lost = |at_| at(at_, at_ + 1, renew(1, 100), Answer::Lost);
    let renewed = |at_| at(at_, at_ + 1, renew(1, 100), Answer::Yes);
    assert_verdict(true, &[&[started, refused, lost(101)]]);
    assert_verdict(false, &[&[started, lost(99)], &[refused]]);
    assert_verdict(true, &[&[started, renewed(99)], &[refused]]);
}

#[test]
fn steps_of_strangers_and_second_completions_must_be_lost() {
    let started = at(0, 1, begin(1, 1000), Answer::Started);
    for stranger in [complete(2, 7, 100), renew(2, 100), release(2)] {
        assert_verdict(true, &[&[started, at(2, 3, stranger, Answer::Lost)]]);
        assert_verdict(false, &[&[started, at(2, 3, stranger, Answer::Yes)]]);
    }
    let completed = at(2, 3, complete(1, 7, 1000), Answer::Yes);
    for late in [complete(1, 8, 100), renew(1, 100), release(1)] {
        assert_verdict(true, &[&[started, completed, at(4, 5, late, Answer::Lost)]]);
        assert_verdict(false, &[&[started, completed, at(4, 5, late, Answer::Yes)]]);
    }
    let found = |record| at(4, 5, begin(2, 0), Answer::Completed { record });
    assert_verdict(true, &[&[started, completed, found(7)]]);
    assert_verdict(false, &[&[started, completed, found(8)]]);
    assert_verdict(
        false,
        &[&[started, completed, at(4, 5, begin(2, 0), Answer::Full)]],
    );
}

#[test]
fn a_store_that_gets_and_then_sets_is_rejected() {
    for (fault, is_right) in [(Fault::GetThenSet, false), (Fault::None, true)] {
        let store = WrongStore::new(fault);
        let (start, key) = (Instant::now(), RecordKey::from_bytes([1; 32]));
        let history: History = thread::scope(|scope| {
            let claim = |owner| {
                let step = begin(owner, 60_000_000_000);
                let store = &store;
                scope.spawn(move || vec![at_once(call(store, &key, step, start))])
            };
            [claim(1), claim(2)]
                .map(|thread| thread.join().unwrap())
                .into()
        });
        assert_eq!(check(&history).is_ok(), is_right, "{fault:?}");
    }
}

#[test]
fn a_store_that_is_wrong_is_rejected_after_random_calls() {
    let is_right = |fault| {
        let run = Run {
            keys: 2,
            calls_per_thread: 4_000,
            threads: 3,
            ..super::RUN
        };
        let histories = histories(&WrongStore::new(fault), run);
        histories.iter().all(|history| check(history).is_ok())
    };
    assert!(is_right(Fault::None));
    for fault in [
        Fault::UnfencedRelease,
        Fault::RenewalForgotten,
        Fault::UnfencedComplete,
        Fault::LateCompleteLost,
        Fault::RecordReplaced,
        Fault::TtlForgotten,
    ] {
        assert!(!is_right(fault), "{fault:?} is not rejected");
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    GetThenSet,
    UnfencedRelease,
    RenewalForgotten,
    UnfencedComplete,
    LateCompleteLost,
    RecordReplaced,
    TtlForgotten,
}

/// A plain store under one lock, with a fault.
struct WrongStore {
    fault: Fault,
    slots: Mutex<HashMap<RecordKey, Slot>>,
    /// Where two claims wait for each other between get and set.
    gap: Barrier,
}

/// Who claims, the record if there is one, and the end of either.
type Slot = (Claim, Option<Record>, Instant);

impl WrongStore {
    fn new(fault: Fault) -> Self {
        Self {
            fault,
            slots: Mutex::default(),
            gap: Barrier::new(2),
        }
    }

    /// Takes a step that only the holder of a key may take.
    fn held(
        &self,
        key: &RecordKey,
        owner: Owner,
        any_owner: bool,
        step: impl FnOnce(&mut Slot),
    ) -> Result<Ownership, StoreError> {
        let mut slots = self.slots.lock().unwrap();
        let now = Instant::now();
        match slots.get_mut(key) {
            Some(slot)
                if (any_owner || slot.0.owner() == owner) && now < slot.2 && slot.1.is_none() =>
            {
                step(slot);
                Ok(Ownership::Held)
            }
            _ => Ok(Ownership::Lost),
        }
    }
}

impl Store for WrongStore {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        let mut slots = self.slots.lock().unwrap();
        let mut now = Instant::now();
        match slots.get(key) {
            Some((_, Some(record), ends)) if now < *ends || self.fault == Fault::TtlForgotten => {
                return Ok(Begin::Completed(record.clone()));
            }
            Some((held, None, ends)) if now < *ends => {
                return Ok(Begin::InProgress(held.fingerprint()));
            }
            _ => {}
        }
        if self.fault == Fault::GetThenSet {
            drop(slots);
            self.gap.wait();
            slots = self.slots.lock().unwrap();
            now = Instant::now();
        }
        slots.insert(*key, (*claim, None, now + lease));
        Ok(Begin::Started)
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        let mut slots = self.slots.lock().unwrap();
        let now = Instant::now();
        let is_refused = match slots.get(key) {
            None => self.fault == Fault::LateCompleteLost,
            Some((_, _, ends)) if now >= *ends => self.fault == Fault::LateCompleteLost,
            Some((_, Some(_), _)) => self.fault != Fault::RecordReplaced,
            Some((claim, None, _)) => {
                claim.owner() != owner && self.fault != Fault::UnfencedComplete
            }
        };
        if is_refused {
            return Ok(Ownership::Lost);
        }
        let claim = Claim::new(owner, record.fingerprint());
        slots.insert(*key, (claim, Some(record.clone()), now + ttl));
        Ok(Ownership::Held)
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        self.held(key, owner, false, |slot| {
            if self.fault != Fault::RenewalForgotten {
                slot.2 = Instant::now() + lease;
            }
        })
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        let unfenced = self.fault == Fault::UnfencedRelease;
        // Ended at once, which counts as absent.
        self.held(key, owner, unfenced, |slot| {
            slot.2 = Instant::now();
        })
    }
}
