//! A handler that keeps its response by itself.

use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};
use tower_idempotency::store::{Begin, Claim, Owner, Ownership, Record, TransactionalStore};
use tower_idempotency::{
    IdempotencyLayer, InFlight, MemoryStore, RecordKey, RequestBody, Store, StoreError,
    Transactional,
};

use super::{LONG, SECOND, assert_nobody_waits};
use crate::support::{Answer, Failure, Frames, write};

/// A store in memory for which each step is a transaction.
#[derive(Clone)]
struct Committing(MemoryStore);

impl Store for Committing {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        self.0.begin(key, claim, lease).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        self.0.complete(key, owner, record, ttl).await
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        self.0.renew(key, owner, lease).await
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        self.0.release(key, owner).await
    }
}

impl TransactionalStore for Committing {
    type Connection<'c> = ();

    async fn complete_in(
        &self,
        _: &mut Self::Connection<'_>,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        self.0.complete(key, owner, record, ttl).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_handlers_own_record_wakes_its_waiters_when_the_handler_is_done() {
    // Whether it returns what it has kept, or fails after it.
    for returns_it in [true, false] {
        let layer = IdempotencyLayer::new(Committing(MemoryStore::new()))
            .transactional()
            .in_flight(InFlight::Wait(LONG));
        let handler = service_fn(move |request: Request<RequestBody<Frames>>| async move {
            let keep = request.extensions().get::<Transactional<Committing>>();
            // So long that a waiter's next turn is not at that moment.
            sleep(10 * SECOND).await;
            let response = Response::builder().status(201);
            let response = response.body(Body::from("done")).unwrap();
            let kept = keep.unwrap().in_transaction(&mut (), response).await;
            match returns_it {
                true => Ok(kept.unwrap()),
                false => Err(Failure("the commit's reply was lost")),
            }
        });
        let app = layer.layer(handler);
        let send = || {
            let app = app.clone();
            tokio::spawn(async move {
                let response = app.oneshot(write("k")).await.unwrap();
                (Instant::now(), Answer::read(response).await)
            })
        };
        let first = send();
        tokio::task::yield_now().await;
        let waiters: Vec<_> = (0..3).map(|_| send()).collect();
        let (ended, first) = first.await.unwrap();
        assert_eq!(first.body, "done");
        for waiter in waiters {
            let (at, answer) = waiter.await.unwrap();
            answer.assert_replay("done");
            assert_eq!(at, ended);
        }
        assert_nobody_waits(&layer);
    }
}
