//! The limit of the memory store in bytes.

use std::time::Duration;

use http::StatusCode;
use tokio::time::sleep;
use tokio_test::task;
use tower::ServiceExt;
use tower_idempotency::store::{
    Begin, Claim, Fingerprint, Owner, Ownership, Record, StoreErrorKind,
};
use tower_idempotency::{
    CallerId, IdempotencyKey, IdempotencyLayer, MemoryStore, Outcome, RecordKey, Store,
};

use crate::support::{Answer, Frames, Gate, Handler, numbered, responding, send, write};

const LIMIT: usize = 64 * 1024;
const MINUTE: Duration = Duration::from_secs(60);

fn print() -> Fingerprint {
    Fingerprint::from_bytes([7; 32])
}

fn key(name: &str) -> RecordKey {
    RecordKey::new(&CallerId::new("ann"), &IdempotencyKey::new(name).unwrap())
}

fn record(body: &[u8]) -> Record {
    Record::new(print(), StatusCode::OK, [], Some(body))
}

async fn begin(store: &MemoryStore, name: &str) -> Result<(Begin, Owner), StoreErrorKind> {
    let owner = Owner::new();
    let begun = store
        .begin(&key(name), &Claim::new(owner, print()), MINUTE)
        .await;
    begun
        .map(|begun| (begun, owner))
        .map_err(|error| error.kind())
}

/// Keeps records until the store takes no more, and returns how many there are.
async fn fill(store: &MemoryStore, ttl: Duration) -> usize {
    for n in 0.. {
        match begin(store, &format!("filler-{n}")).await {
            Ok((Begin::Started, owner)) => {
                let key = key(&format!("filler-{n}"));
                let completed = store.complete(&key, owner, &record(&[0; 500]), ttl).await;
                assert_eq!(completed.unwrap(), Ownership::Held);
            }
            Ok((found, _)) => panic!("{found:?}"),
            Err(kind) => {
                assert_eq!(kind, StoreErrorKind::Full);
                return n;
            }
        }
    }
    unreachable!()
}

#[tokio::test(start_paused = true)]
async fn a_full_store_refuses_claims_but_goes_on_to_replay_and_to_complete() {
    let store = MemoryStore::new().max_bytes(LIMIT);
    let (_, owner) = begin(&store, "early").await.unwrap();
    let records = fill(&store, MINUTE * 2).await;
    assert!(records > 50, "{records}");
    assert!(store.bytes() >= LIMIT && store.bytes() < LIMIT + LIMIT / 20);

    for n in [0, records - 1] {
        let (begun, _) = begin(&store, &format!("filler-{n}")).await.unwrap();
        assert!(matches!(begun, Begin::Completed(kept) if kept == record(&[0; 500])));
    }
    // The claim from before is still held, and may complete a little beyond the limit.
    let (found, _) = begin(&store, "early").await.unwrap();
    assert!(matches!(found, Begin::InProgress(of) if of == print()));
    assert_eq!(
        store.renew(&key("early"), owner, MINUTE).await.unwrap(),
        Ownership::Held
    );
    let large = store
        .complete(&key("early"), owner, &record(&[0; LIMIT]), MINUTE)
        .await;
    assert_eq!(large.unwrap_err().kind(), StoreErrorKind::Full);
    let small = store
        .complete(&key("early"), owner, &record(b"{}"), MINUTE)
        .await;
    assert_eq!(small.unwrap(), Ownership::Held);
    assert_eq!(
        begin(&store, "late").await.unwrap_err(),
        StoreErrorKind::Full
    );
    assert_eq!(store.len(), records + 1, "nothing was dropped");
}

#[tokio::test(start_paused = true)]
async fn a_late_record_is_counted_refused_when_full_and_its_room_given_back() {
    let store = MemoryStore::new().max_bytes(LIMIT);
    let (_, late) = begin(&store, "late").await.unwrap();
    sleep(MINUTE).await;
    let complete = async |name: &str, length: usize| {
        let (key, record) = (key(name), record(&vec![0; length]));
        let completed = store.complete(&key, late, &record, MINUTE * 3).await;
        completed.map_err(|error| error.kind())
    };
    // Over the claim whose lease has ended, and where there was none.
    for name in ["late", "unclaimed"] {
        let before = store.bytes();
        assert_eq!(complete(name, 10_000).await, Ok(Ownership::Held));
        assert!((9_000..11_000).contains(&(store.bytes() - before)));
    }
    fill(&store, MINUTE).await;
    let full = store.bytes();
    assert_eq!(complete("huge", LIMIT).await, Err(StoreErrorKind::Full));
    assert_eq!(store.bytes(), full);
    sleep(MINUTE * 2).await;
    assert_eq!(store.len(), 2, "the rest has ended");
    sleep(MINUTE * 2).await;
    assert_eq!((store.len(), store.bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_full_store_makes_room_of_what_has_ended() {
    let store = MemoryStore::new().max_bytes(LIMIT);
    let records = fill(&store, MINUTE * 2).await;
    assert_eq!(
        begin(&store, "early").await.unwrap_err(),
        StoreErrorKind::Full
    );
    sleep(MINUTE * 2 + Duration::from_secs(2)).await;
    assert_eq!((store.len(), store.bytes()), (0, 0));
    assert_eq!(fill(&store, MINUTE * 2).await, records);
}

#[tokio::test(start_paused = true)]
async fn a_claim_on_a_full_store_makes_room_itself_where_no_task_has_yet() {
    let store = MemoryStore::new().max_bytes(LIMIT);
    fill(&store, MINUTE * 2).await;
    // Polled once, this moves the clock, and no other task gets to run.
    let mut moved = task::spawn(tokio::time::advance(MINUTE * 3));
    assert!(moved.poll().is_pending());
    assert_ne!(store.len(), 0);
    let (begun, _) = begin(&store, "late").await.unwrap();
    assert!(matches!(begun, Begin::Started));
}

#[tokio::test(start_paused = true)]
async fn requests_go_through_a_full_store_unprotected_and_its_replays_go_on() {
    let store = MemoryStore::new().max_bytes(LIMIT);
    let layer = IdempotencyLayer::new(store.clone());
    let gate = Gate::new();
    let waiting = Handler::at(&gate);
    let waiting = waiting.under(&layer);
    let in_progress = tokio::spawn(waiting.clone().oneshot(write("in progress")));
    gate.reached().await;
    let app = Handler::creating("{}").under(&layer);
    send(&app, write("early")).await.assert_run("{}");
    fill(&store, MINUTE).await;

    let late = send(&app, write("late")).await;
    assert_eq!(late.outcome, Outcome::StoreFailed(StoreErrorKind::Full));
    assert_eq!((late.status, &*late.body), (StatusCode::CREATED, "{}"));
    send(&app, write("early")).await.assert_replay("{}");
    send(&waiting, write("in progress"))
        .await
        .assert_in_progress();
    gate.open();
    Answer::read(in_progress.await.unwrap().unwrap())
        .await
        .assert_run(numbered(1));
    send(&waiting, write("in progress"))
        .await
        .assert_replay(numbered(1));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_does_not_fit_is_kept_without_its_body() {
    const LARGE: &str = match std::str::from_utf8(&[b'x'; 2 * LIMIT]) {
        Ok(large) => large,
        Err(_) => unreachable!(),
    };
    for body in [|| Frames::exact([LARGE]), || Frames::unknown([LARGE])] as [fn() -> Frames; 2] {
        let layer = IdempotencyLayer::new(MemoryStore::new().max_bytes(LIMIT));
        let handler = Handler::new(move |_, _| async move { responding(201, body()) });
        let app = handler.under(&layer);
        let first = send(&app, write("k")).await;
        assert!(matches!(
            first.outcome,
            Outcome::KeptWithoutBody | Outcome::Recording
        ));
        assert_eq!(first.body, LARGE, "its client gets all of it");
        let again = send(&app, write("k")).await;
        again.assert_replay("");
        assert_eq!(again.status, 201);
        assert_eq!(again.headers["content-type"], "application/json");
        assert_eq!(again.headers["idempotency-replay-body"], "omitted");
        assert_eq!(handler.runs(), 1);
    }
}
