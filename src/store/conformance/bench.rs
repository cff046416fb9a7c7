//! What the cases share: fresh keys and claims, and steps whose answers are checked.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use uuid::Uuid;

use super::clock::{Clock, Term};
use crate::store::{
    Begin, Claim, Fingerprint, Owner, Ownership, Record, RecordKey, Store, StoreError,
};

/// A store under test and the clock that it is judged by.
pub(super) struct Bench<S> {
    pub(super) store: Arc<S>,
    pub(super) clock: Clock,
}

impl<S: Store> Bench<S> {
    pub(super) fn new(store: S, clock: Clock) -> Self {
        Self {
            store: Arc::new(store),
            clock,
        }
    }

    pub(super) async fn begin(&self, key: &RecordKey, claim: &Claim, lease: Duration) -> Begin {
        answer("begin", self.store.begin(key, claim, lease).await)
    }

    pub(super) async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Ownership {
        let answered = self.store.complete(key, owner, record, ttl).await;
        answer("complete", answered)
    }

    pub(super) async fn renew(&self, key: &RecordKey, owner: Owner, lease: Duration) -> Ownership {
        answer("renew", self.store.renew(key, owner, lease).await)
    }

    pub(super) async fn release(&self, key: &RecordKey, owner: Owner) -> Ownership {
        answer("release", self.store.release(key, owner).await)
    }

    /// Claims a key that nobody has used.
    pub(super) async fn claimed(&self) -> (RecordKey, Claim) {
        let (key, claim) = (fresh_key(), fresh_claim());
        self.must_start(&key, &claim, "a key that nobody has used")
            .await;
        (key, claim)
    }

    /// Claims a key that nobody has used, for a lease that ends within the case.
    pub(super) async fn claimed_for(&self, lease: Duration) -> (RecordKey, Claim, Term) {
        let (key, claim) = (fresh_key(), fresh_claim());
        let begin = self.begin(&key, &claim, lease);
        let (begun, term) = self.clock.grant(lease, begin).await;
        assert!(
            matches!(begun, Begin::Started),
            "a key that nobody has used was not claimed, but {begun:?} was answered"
        );
        (key, claim, term)
    }

    /// Claims a key that nobody has used, and lets the lease end.
    pub(super) async fn lost(&self) -> (RecordKey, Claim) {
        let (key, claim, term) = self.claimed_for(self.clock.shortest()).await;
        term.over().await;
        (key, claim)
    }

    /// Completes a key that nobody has used.
    pub(super) async fn completed(&self) -> (RecordKey, Claim, Record) {
        let (key, claim) = self.claimed().await;
        let record = record_of(&claim);
        self.must_complete(&key, &claim, &record, "its owner").await;
        (key, claim, record)
    }

    /// Completes a key that nobody has used, and lets the ttl end.
    pub(super) async fn ended(&self) -> (RecordKey, Claim) {
        let (key, claim) = self.claimed().await;
        let (record, ttl) = (record_of(&claim), self.clock.shortest());
        let complete = self.complete(&key, claim.owner(), &record, ttl);
        let (held, term) = self.clock.grant(ttl, complete).await;
        assert_eq!(held, Ownership::Held, "complete by the owner");
        term.over().await;
        (key, claim)
    }

    pub(super) async fn must_start(&self, key: &RecordKey, claim: &Claim, what: &str) {
        let begun = self.begin(key, claim, LONG).await;
        assert!(
            matches!(begun, Begin::Started),
            "{what}: a claim must start, but {begun:?} was answered"
        );
    }

    /// Checks that a key is absent, by claiming it and completing that claim.
    pub(super) async fn must_be_absent(&self, key: &RecordKey, what: &str) {
        let claim = fresh_claim();
        self.must_start(key, &claim, what).await;
        self.must_complete(key, &claim, &record_of(&claim), what)
            .await;
    }

    /// Checks that a claim is in progress, and that it can still be completed.
    pub(super) async fn must_be_held(&self, key: &RecordKey, claim: &Claim, what: &str) {
        self.must_be_in_progress(key, claim, what).await;
        let record = record_of(claim);
        self.must_complete(key, claim, &record, what).await;
        self.must_be_completed(key, &record, what).await;
    }

    pub(super) async fn must_be_in_progress(&self, key: &RecordKey, claim: &Claim, what: &str) {
        let found = self.begin(key, &fresh_claim(), LONG).await;
        assert!(
            matches!(found, Begin::InProgress(fingerprint) if fingerprint == claim.fingerprint()),
            "{what}: the key must be in progress with {:?}, but {found:?} was answered",
            claim.fingerprint()
        );
    }

    pub(super) async fn must_be_completed(&self, key: &RecordKey, record: &Record, what: &str) {
        match self.begin(key, &fresh_claim(), LONG).await {
            Begin::Completed(found) => must_be_same(&found, record, what),
            found => panic!("{what}: the key must be completed, but {found:?} was answered"),
        }
    }

    pub(super) async fn must_complete(
        &self,
        key: &RecordKey,
        claim: &Claim,
        record: &Record,
        what: &str,
    ) {
        let held = self.complete(key, claim.owner(), record, LONG).await;
        assert_eq!(held, Ownership::Held, "{what}: complete");
    }

    /// Checks that an owner does not hold a key, which may be absent: its `renew` and `release` are
    /// lost.
    pub(super) async fn must_not_hold(&self, key: &RecordKey, claim: &Claim, what: &str) {
        let renewed = self.renew(key, claim.owner(), LONG).await;
        assert_eq!(renewed, Ownership::Lost, "{what}: renew");
        let released = self.release(key, claim.owner()).await;
        assert_eq!(released, Ownership::Lost, "{what}: release");
    }

    /// Checks that an owner is kept off a key that is another's or completed: whatever it tries is
    /// lost.
    pub(super) async fn must_be_kept_off(&self, key: &RecordKey, claim: &Claim, what: &str) {
        assert_eq!(self.tries(key, claim).await, KEPT_OFF, "{what}");
    }

    /// Checks the same where the term may end meanwhile, and reports whether it lasted.
    pub(super) async fn must_be_kept_off_during(
        &self,
        term: &Term,
        key: &RecordKey,
        claim: &Claim,
        what: &str,
    ) -> bool {
        let answers = self.tries(key, claim).await;
        let lasted = term.lasted_until(self.clock.now());
        assert!(!lasted || answers == KEPT_OFF, "{what}: {answers:?}");
        lasted
    }

    /// Tries everything that an owner can.
    async fn tries(&self, key: &RecordKey, claim: &Claim) -> [(&'static str, Ownership); 3] {
        let owner = claim.owner();
        // Of another body than any record that is rightly there.
        let record = record_of(claim);
        [
            ("renew", self.renew(key, owner, LONG).await),
            ("complete", self.complete(key, owner, &record, LONG).await),
            ("release", self.release(key, owner).await),
        ]
    }

    /// Checks that a key ends when its term does, neither earlier nor later, however often it is
    /// looked at. Returns the claim that took it.
    pub(super) async fn must_end(
        &self,
        key: &RecordKey,
        term: &Term,
        is_there: impl Fn(&Begin) -> bool,
    ) -> Claim {
        loop {
            let claim = fresh_claim();
            let called = self.clock.now();
            let begun = self.begin(key, &claim, LONG).await;
            if let Begin::Started = begun {
                assert!(
                    !term.lasted_until(self.clock.now()),
                    "the key was free earlier than it had been asked for"
                );
                return claim;
            }
            assert!(
                is_there(&begun),
                "while the term lasts: {begun:?} was answered"
            );
            assert!(
                !term.is_over_at(called),
                "the key is still there later than it had been asked for"
            );
            self.clock.pause().await;
        }
    }
}

/// Checks that a record came back as it was given.
pub(super) fn must_be_same(found: &Record, given: &Record, what: &str) {
    if found.as_bytes() == given.as_bytes() {
        return;
    }
    let fields = |record: &Record| record.fields().collect::<Vec<_>>();
    assert_eq!(found.status(), given.status(), "{what}: the status");
    assert_eq!(
        found.fingerprint(),
        given.fingerprint(),
        "{what}: the fingerprint"
    );
    assert_eq!(fields(found), fields(given), "{what}: the header fields");
    let (found, given) = (found.body(), given.body());
    let at = match (&found, &given) {
        (Some(found), Some(given)) => found.iter().zip(given).position(|(a, b)| a != b),
        _ => None,
    };
    panic!(
        "{what}: the body: {:?} bytes were given and {:?} came back, the first that differs is at {at:?}",
        given.map(|body| body.len()),
        found.map(|body| body.len()),
    );
}

/// Returns a key that no other run has, so that a shared server need not be wiped.
pub(super) fn fresh_key() -> RecordKey {
    RecordKey::from_bytes(fresh_bytes())
}

pub(super) fn fresh_claim() -> Claim {
    Claim::new(Owner::new(), Fingerprint::from_bytes(fresh_bytes()))
}

/// Returns a record for this claim that is like no other.
pub(super) fn record_of(claim: &Claim) -> Record {
    let name = HeaderName::from_static("x-conformance");
    let value = HeaderValue::from_static("yes");
    Record::new(
        claim.fingerprint(),
        StatusCode::CREATED,
        [(&name, &value)],
        Some(&fresh_bytes()),
    )
}

/// Returns a body of 1 MiB, which is what the layer keeps at most.
pub(super) fn long_body() -> Vec<u8> {
    // The pattern's length divides no block size, so that no two blocks are equal.
    (0..1 << 20).map(|at: u32| (at % 251) as u8).collect()
}

fn fresh_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    bytes[16..].copy_from_slice(Uuid::new_v4().as_bytes());
    bytes
}

pub(super) fn answer<T>(step: &str, answered: Result<T, StoreError>) -> T {
    answered.unwrap_or_else(|error| {
        let source = std::error::Error::source(&error);
        panic!("{step}: {error} ({source:?})")
    })
}

/// A lease or a ttl that does not end while a case runs, but soon enough afterwards on a server.
pub(super) const LONG: Duration = Duration::from_secs(600);

const KEPT_OFF: [(&str, Ownership); 3] = [
    ("renew", Ownership::Lost),
    ("complete", Ownership::Lost),
    ("release", Ownership::Lost),
];
