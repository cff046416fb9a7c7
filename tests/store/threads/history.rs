//! What threads did to one key of a store, and when.

use std::time::{Duration, Instant};

use tower_idempotency::store::{
    Begin, Claim, Fingerprint, Owner, Ownership, Record, StoreErrorKind,
};
use tower_idempotency::{RecordKey, Store, StoreError};

/// One call of a store, with its answer and the time between which it took effect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) step: Step,
    pub(super) answer: Answer,
    /// In nanoseconds from the start of the run, as all times here.
    pub(super) called: u64,
    pub(super) answered: u64,
}

/// A step on a key. Owners, requests and records are numbers here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Begin { owner: u8, request: u32, lease: u64 },
    Complete { owner: u8, record: u32, ttl: u64 },
    Renew { owner: u8, lease: u64 },
    Release { owner: u8 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Started,
    InProgress { request: u32 },
    Completed { record: u32 },
    Yes,
    Lost,
    Full,
}

/// Takes a step on a store, and notes its answer.
pub(super) async fn call<S: Store>(store: &S, key: &RecordKey, step: Step, start: Instant) -> Call {
    let record = match step {
        Step::Complete { record, .. } => Some(record_of(record)),
        _ => None,
    };
    let called = nanos(start.elapsed());
    let answer = match step {
        Step::Begin {
            owner,
            request,
            lease,
        } => {
            let claim = Claim::new(owner_of(owner), fingerprint_of(request));
            begun(store.begin(key, &claim, Duration::from_nanos(lease)).await)
        }
        Step::Complete { owner, ttl, .. } => {
            let (record, ttl) = (record.unwrap(), Duration::from_nanos(ttl));
            held(store.complete(key, owner_of(owner), &record, ttl).await)
        }
        Step::Renew { owner, lease } => {
            let lease = Duration::from_nanos(lease);
            held(store.renew(key, owner_of(owner), lease).await)
        }
        Step::Release { owner } => held(store.release(key, owner_of(owner)).await),
    };
    let answered = nanos(start.elapsed());
    Call {
        step,
        answer,
        called,
        answered,
    }
}

fn begun(answer: Result<Begin, StoreError>) -> Answer {
    match answer {
        Ok(Begin::Started) => Answer::Started,
        Ok(Begin::InProgress(fingerprint)) => Answer::InProgress {
            request: number_in(fingerprint),
        },
        Ok(Begin::Completed(record)) => {
            let number = number_in(record.fingerprint());
            assert_eq!(record, record_of(number), "a record is as it was given");
            Answer::Completed { record: number }
        }
        Ok(found) => panic!("{found:?} is no answer of the model"),
        Err(error) => full(&error),
    }
}

fn held(answer: Result<Ownership, StoreError>) -> Answer {
    match answer {
        Ok(Ownership::Held) => Answer::Yes,
        Ok(Ownership::Lost) => Answer::Lost,
        Err(error) => full(&error),
    }
}

fn full(error: &StoreError) -> Answer {
    assert_eq!(
        error.kind(),
        StoreErrorKind::Full,
        "the only failure there is"
    );
    Answer::Full
}

fn owner_of(number: u8) -> Owner {
    Owner::from_bytes([number; 16])
}

fn fingerprint_of(number: u32) -> Fingerprint {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Fingerprint::from_bytes(bytes)
}

fn number_in(fingerprint: Fingerprint) -> u32 {
    let [a, b, c, d, ..] = *fingerprint.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// Returns a record that repeats its number throughout, in one of several sizes.
fn record_of(number: u32) -> Record {
    let body = number.to_be_bytes().repeat(1 + number as usize % 5 * 64);
    Record::new(
        fingerprint_of(number),
        http::StatusCode::OK,
        [],
        Some(&body),
    )
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}
