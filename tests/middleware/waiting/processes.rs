//! The first request runs in another process, for which stands a layer that shares nothing but the store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;
use tower_idempotency::store::{Begin, Claim, Owner, Ownership, Record};
use tower_idempotency::{IdempotencyLayer, InFlight, MemoryStore, RecordKey, Store, StoreError};

use super::{LONG, SECOND, assert_nobody_waits, wait, waiters};
use crate::support::{Gate, Handler, created, numbered, scripted, send, until, write};

#[tokio::test(start_paused = true)]
async fn waiters_have_the_answer_within_a_pause_and_ask_one_at_a_time() {
    let gate = Gate::new();
    let handler = Handler::at(&gate);
    let (elsewhere, store) = scripted();
    let here = IdempotencyLayer::new(store.clone()).in_flight(InFlight::Wait(LONG));
    let (first, app) = (handler.under(&elsewhere), handler.under(&here));
    let first = tokio::spawn(first.oneshot(write("k")));
    gate.reached().await;
    let mut answers = wait(&here, &app, 100).await;
    sleep(LONG / 2).await;
    gate.open();
    let ended = Instant::now();
    first.await.unwrap().unwrap();
    let mut latest = ended;
    while let Some(answer) = answers.join_next().await {
        let (at, answer) = answer.unwrap();
        answer.assert_replay(numbered(1));
        latest = latest.max(at);
    }
    assert!(latest - ended <= SECOND, "{:?}", latest - ended);
    assert_eq!(handler.runs(), 1);
    assert_nobody_waits(&here);
}

#[tokio::test(start_paused = true)]
async fn the_key_of_another_process_that_comes_free_is_run_once() {
    let gate = Gate::new();
    let at_gate = gate.clone();
    let failing = Handler::new(move |_, _| {
        let gate = at_gate.clone();
        async move {
            gate.pass().await;
            crate::support::responding(500, Default::default())
        }
    });
    let handler = Handler::new(|_, _| async {
        sleep(SECOND).await;
        created("done")
    });
    let (elsewhere, store) = scripted();
    let one = IdempotencyLayer::new(store.clone()).in_flight(InFlight::Wait(LONG));
    let two = IdempotencyLayer::new(store.clone()).in_flight(InFlight::Wait(LONG));
    let first = tokio::spawn(failing.under(&elsewhere).oneshot(write("k")));
    gate.reached().await;
    let mut answers = wait(&one, &handler.under(&one), 10).await;
    let mut others = wait(&two, &handler.under(&two), 10).await;
    gate.open();
    first.await.unwrap().unwrap();
    let mut runs = 0;
    for answers in [&mut answers, &mut others] {
        while let Some(answer) = answers.join_next().await {
            let (_, answer) = answer.unwrap();
            assert_eq!(answer.body, "done");
            runs += usize::from(!answer.is_replay());
        }
    }
    assert_eq!((runs, handler.runs()), (1, 1));
}

/// A memory store that counts its claims in each second.
#[derive(Clone)]
struct Counting {
    memory: MemoryStore,
    start: Instant,
    begins: Arc<Mutex<BTreeMap<u64, usize>>>,
}

impl Store for Counting {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        let second = self.start.elapsed().as_secs();
        *self.begins.lock().unwrap().entry(second).or_default() += 1;
        self.memory.begin(key, claim, lease).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        self.memory.complete(key, owner, record, ttl).await
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        self.memory.renew(key, owner, lease).await
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        self.memory.release(key, owner).await
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_waiters_on_a_hundred_keys_ask_no_more_than_is_said() {
    const KEYS: usize = 100;
    const EACH: usize = 100;
    let store = Counting {
        memory: MemoryStore::new(),
        start: Instant::now(),
        begins: Arc::default(),
    };
    let handler = Handler::new(|_, _| async {
        sleep(LONG / 2).await;
        created("done")
    });
    let elsewhere = IdempotencyLayer::new(store.clone());
    let here = IdempotencyLayer::new(store.clone()).in_flight(InFlight::Wait(LONG));
    let mut answers = JoinSet::new();
    for n in 0..KEYS {
        let (app, key) = (handler.under(&elsewhere), format!("k{n}"));
        answers.spawn(async move { send(&app, write(&key)).await });
    }
    until(|| handler.runs() == KEYS).await;
    for n in 0..KEYS * EACH {
        let (app, key) = (handler.under(&here), format!("k{}", n % KEYS));
        answers.spawn(async move { send(&app, write(&key)).await });
    }
    until(|| waiters(&here)[0] == KEYS * EACH).await;
    while let Some(answer) = answers.join_next().await {
        assert_eq!(answer.unwrap().body, "done");
    }
    assert_eq!(handler.runs(), KEYS);
    assert_eq!(waiters(&here), [0, 0]);

    let begins = store.begins.lock().unwrap();
    // At first, each asks twice, and the pauses are short.
    let first = begins[&0];
    assert!(first <= KEYS + 2 * KEYS * EACH + 10 * KEYS, "{begins:?}");
    for second in 2..30 {
        // One a pause, which is at least half a second, whatever the number of waiters.
        let asked = begins[&second];
        assert!(
            (KEYS..=2 * KEYS).contains(&asked),
            "second {second}: {begins:?}"
        );
    }
    // At last, each asks once more for its answer.
    let last = begins.values().skip(30).sum::<usize>();
    assert!(last <= KEYS * EACH + 4 * KEYS, "{begins:?}");
}

#[tokio::test(start_paused = true)]
async fn waiters_that_come_and_go_do_not_put_off_the_next_question() {
    let gate = Gate::new();
    let handler = Handler::at(&gate);
    let (elsewhere, store) = scripted();
    let here = IdempotencyLayer::new(store.clone()).in_flight(InFlight::Wait(LONG));
    let (first, app) = (handler.under(&elsewhere), handler.under(&here));
    let first = tokio::spawn(first.oneshot(write("k")));
    gate.reached().await;
    let mut leaving = Vec::new();
    for n in 1..=20 {
        let app = app.clone();
        leaving.push(tokio::spawn(async move { send(&app, write("k")).await }));
        until(|| waiters(&here)[0] == n).await;
    }
    let mut answers = wait(&here, &app, 1).await;
    gate.open();
    first.await.unwrap().unwrap();
    let ended = Instant::now();
    // All but the last leave one after the other, each before the first pause is over.
    for waiter in leaving {
        sleep(Duration::from_millis(5)).await;
        waiter.abort();
    }
    let (at, answer) = answers.join_next().await.unwrap().unwrap();
    answer.assert_replay(numbered(1));
    // A timer takes up to a millisecond more.
    let took = at - ended;
    assert!(took <= Duration::from_millis(21), "{took:?}");
}
