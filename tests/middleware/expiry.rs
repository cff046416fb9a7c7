//! The end of what is kept, on a paused clock.

use std::time::Duration;

use tokio::time::sleep;
use tower_idempotency::store::{Begin, Claim, Fingerprint, Owner};
use tower_idempotency::{
    CallerId, IdempotencyKey, IdempotencyLayer, MemoryStore, RecordKey, Store,
};

use crate::support::{Handler, created, numbered, send, write};

const TTL: Duration = Duration::from_secs(100);
const MILLISECOND: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn at_its_ttl_a_key_runs_again_and_a_replay_does_not_prolong_it() {
    let layer = IdempotencyLayer::new(MemoryStore::new()).ttl(TTL);
    let handler = Handler::new(|run, _| async move {
        // The ttl runs from the end of the first request.
        sleep(Duration::from_secs(7)).await;
        created(numbered(run))
    });
    let app = handler.under(&layer);
    for run in 1..=3 {
        send(&app, write("k")).await.assert_run(numbered(run));
        for _ in 0..10 {
            send(&app, write("k")).await.assert_replay(numbered(run));
            sleep(TTL / 10 - MILLISECOND).await;
        }
        sleep(MILLISECOND * 9).await;
        send(&app, write("k")).await.assert_replay(numbered(run));
        sleep(MILLISECOND).await;
    }
    assert_eq!(handler.runs(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_room_of_records_is_given_back_without_a_request() {
    let store = MemoryStore::new();
    let layer = IdempotencyLayer::new(store.clone()).ttl(TTL);
    let app = Handler::creating("{}").under(&layer);
    for round in 0..3 {
        for key in 0..1000 {
            send(&app, write(&format!("{round}-{key}"))).await;
        }
        assert_eq!(store.len(), 1000);
        assert!(store.bytes() > 1000 * 100, "{}", store.bytes());
        sleep(TTL - MILLISECOND).await;
        assert_eq!(store.len(), 1000);
        sleep(Duration::from_secs(2)).await;
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_room_of_a_claim_is_given_back_after_its_lease_and_of_a_short_ttl_before() {
    let store = MemoryStore::new();
    let lease = Duration::from_secs(60);
    let claimed = |name: &str| {
        let key = IdempotencyKey::new(name).unwrap();
        RecordKey::new(&CallerId::new("ann"), &key)
    };
    let claim = Claim::new(Owner::new(), Fingerprint::from_bytes([0; 32]));
    let begun = store.begin(&claimed("dead"), &claim, lease).await.unwrap();
    assert!(matches!(begun, Begin::Started));
    // A record that ends before the lease of its claim would have.
    let layer = IdempotencyLayer::new(store.clone())
        .ttl(Duration::from_secs(5))
        .lease(lease);
    send(&Handler::creating("{}").under(&layer), write("k"))
        .await
        .assert_run("{}");

    assert_eq!(store.len(), 2);
    sleep(Duration::from_secs(7)).await;
    assert_eq!(store.len(), 1);
    sleep(lease).await;
    assert_eq!((store.len(), store.bytes()), (0, 0));
}
