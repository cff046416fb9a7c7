//! Panics of what the layer calls beside the handler: the rule, and the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use tower_idempotency::store::{Begin, Claim, Owner, Ownership, Record, StoreErrorKind};
use tower_idempotency::{
    IdempotencyLayer, MemoryStore, NotKept, Outcome, RecordKey, Store, StoreError,
};

use crate::support::{
    Call, Frames, Gate, Handler, LEASE, Piece, numbered, responding, send, write,
};

/// A memory store that panics in the first so many calls of one method.
struct Panicking {
    memory: MemoryStore,
    call: Call,
    times: AtomicUsize,
}

impl Panicking {
    fn panic_in(&self, call: Call) {
        let left = &self.times;
        let take = |left: usize| left.checked_sub(1);
        if call == self.call
            && left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                .is_ok()
        {
            panic!("the store panics in {call:?}");
        }
    }
}

impl Store for Panicking {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        self.panic_in(Call::Begin);
        self.memory.begin(key, claim, lease).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        self.panic_in(Call::Complete);
        self.memory.complete(key, owner, record, ttl).await
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        self.panic_in(Call::Renew);
        self.memory.renew(key, owner, lease).await
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        self.panic_in(Call::Release);
        self.memory.release(key, owner).await
    }
}

fn panicking(call: Call, times: usize) -> IdempotencyLayer<Arc<Panicking>> {
    let store = Arc::new(Panicking {
        memory: MemoryStore::new(),
        call,
        times: AtomicUsize::new(times),
    });
    IdempotencyLayer::new(store).lease(LEASE)
}

type MakeBody = fn() -> Frames;

const BODIES: [MakeBody; 3] = [
    || Frames::exact(["{}"]),
    || Frames::unknown(["{", "}"]),
    || Frames::unknown([Piece::Data("{"), Piece::Pend, Piece::Data("}")]),
];

#[tokio::test(start_paused = true)]
async fn a_rule_that_panics_costs_neither_the_response_nor_the_key() {
    for body in BODIES {
        let layer = panicking(Call::Renew, 0).keep_if(|_| panic!("the rule panics"));
        let handler = Handler::new(move |_, _| async move { responding(201, body()) });
        let app = handler.under(&layer);
        let first = send(&app, write("k")).await;
        assert_eq!((first.status.as_u16(), &*first.body), (201, "{}"));
        assert_eq!(first.outcome, Outcome::NotKept(NotKept::RulePanicked));
        send(&app, write("k")).await.assert_in_progress();
        sleep(LEASE).await;
        send(&app, write("k")).await;
        assert_eq!(handler.runs(), 2, "the key is free after a lease");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_when_a_response_is_kept_costs_neither_the_response_nor_the_record() {
    for body in BODIES {
        let layer = panicking(Call::Complete, 2);
        let handler = Handler::new(move |_, _| async move { responding(201, body()) });
        let app = handler.under(&layer);
        let first = send(&app, write("k")).await;
        assert_eq!((first.status.as_u16(), &*first.body), (201, "{}"));
        let failed = Outcome::StoreFailed(StoreErrorKind::Unavailable);
        assert!(
            [failed, Outcome::Recording].contains(&first.outcome),
            "{first:?}"
        );
        // It is tried again, as after any failure of the store.
        layer.detached().wait(LEASE).await.unwrap();
        send(&app, write("k")).await.assert_replay("{}");
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_anywhere_else_is_taken_for_one_that_fails() {
    // The handler runs unprotected.
    let layer = panicking(Call::Begin, 1);
    let handler = Handler::creating("{}");
    let first = send(&handler.under(&layer), write("k")).await;
    assert_eq!(
        first.outcome,
        Outcome::StoreFailed(StoreErrorKind::Unavailable)
    );

    // The next renewal comes in time.
    let layer = panicking(Call::Renew, 1);
    let gate = Gate::new();
    let handler = Handler::at(&gate);
    let app = handler.under(&layer);
    let first = tokio::spawn({
        let app = app.clone();
        async move { send(&app, write("k")).await }
    });
    gate.reached().await;
    sleep(LEASE * 2).await;
    send(&app, write("k")).await.assert_in_progress();
    gate.open();
    first.await.unwrap().assert_run(numbered(1));

    // The key is released in the background.
    let layer = panicking(Call::Release, 1);
    let handler = Handler::new(|_, _| async { responding(500, Frames::default()) });
    let app = handler.under(&layer);
    let first = send(&app, write("k")).await;
    assert_eq!(first.status, 500);
    layer.detached().wait(LEASE).await.unwrap();
    send(&app, write("k")).await;
    assert_eq!(handler.runs(), 2);
}
