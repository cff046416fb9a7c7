//! What the store puts under a key, and what it makes of what it finds there.

use support::entry::{MINUTE, claim, record};
use tower_idempotency::RedisStore;
use tower_idempotency::store::{Begin, Ownership, RecordKey, Store, StoreErrorKind};

use crate::server::Server;

#[tokio::test]
async fn a_key_is_one_entry_under_the_prefix_that_ends_by_the_servers_clock() {
    let Some(server) = Server::start("a_key_is_one_entry_under_the_prefix") else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let store = store.key_prefix("vms:");
    let (key, claim) = (RecordKey::from_bytes([0xab; 32]), claim());
    assert!(matches!(
        store.begin(&key, &claim, MINUTE).await,
        Ok(Begin::Started)
    ));
    let name = format!("vms:{key}");
    assert_eq!(server.ask::<Vec<String>>("KEYS *"), [&*name]);
    let left = || server.ask::<u64>(&format!("PTTL {name}"));
    assert!((59_000..=60_000).contains(&left()));
    let held = store.renew(&key, claim.owner(), 3 * MINUTE).await.unwrap();
    assert_eq!(held, Ownership::Held);
    assert!((179_000..=180_000).contains(&left()));
    let held = store
        .complete(&key, claim.owner(), &record(b"{}"), 2 * MINUTE)
        .await;
    assert_eq!(held.unwrap(), Ownership::Held);
    assert!((119_000..=120_000).contains(&left()));
}

#[tokio::test]
async fn what_cannot_be_read_is_a_failure_of_kind_corrupt_and_is_left_alone() {
    let Some(server) = Server::start("what_cannot_be_read_is_a_failure") else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let corrupt = |result: Result<Begin, _>| {
        assert_eq!(
            result
                .map(drop)
                .map_err(|error: tower_idempotency::StoreError| error.kind()),
            Err(StoreErrorKind::Corrupt)
        );
    };

    let (key, claim) = (RecordKey::from_bytes([1; 32]), claim());
    let name = format!("idempotency:{key}");
    assert!(matches!(
        store.begin(&key, &claim, MINUTE).await,
        Ok(Begin::Started)
    ));
    let held = store
        .complete(&key, claim.owner(), &record(b"{\"id\":1}"), MINUTE)
        .await;
    assert_eq!(held.unwrap(), Ownership::Held);
    let mut bytes: Vec<u8> = server.ask(&format!("GET {name}"));
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let () = redis::cmd("SET")
        .arg(&name)
        .arg(&bytes)
        .arg("KEEPTTL")
        .query(&mut server.look())
        .unwrap();
    corrupt(store.begin(&key, &support::entry::claim(), MINUTE).await);
    assert_eq!(server.ask::<Vec<u8>>(&format!("GET {name}")), bytes);

    let key = RecordKey::from_bytes([2; 32]);
    let name = format!("idempotency:{key}");
    let () = server.ask(&format!("LPUSH {name} list"));
    corrupt(store.begin(&key, &claim, MINUTE).await);
    let released = store.release(&key, claim.owner()).await;
    assert_eq!(released.unwrap_err().kind(), StoreErrorKind::Corrupt);
    assert_eq!(server.ask::<u64>(&format!("LLEN {name}")), 1);
}

#[tokio::test]
async fn a_full_server_refuses_new_claims_and_lets_those_made_complete() {
    let settings = ["--maxmemory-policy", "noeviction"];
    let Some(server) = Server::start_with("a_full_server_refuses_new_claims", &settings) else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let (key, claim) = (RecordKey::from_bytes([1; 32]), claim());
    assert!(matches!(
        store.begin(&key, &claim, MINUTE).await,
        Ok(Begin::Started)
    ));
    let other = RecordKey::from_bytes([2; 32]);
    let others = support::entry::claim();
    assert!(matches!(
        store.begin(&other, &others, MINUTE).await,
        Ok(Begin::Started)
    ));
    let () = server.ask("CONFIG SET maxmemory 1");
    let refused = store
        .begin(
            &RecordKey::from_bytes([3; 32]),
            &support::entry::claim(),
            MINUTE,
        )
        .await;
    assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::Full);
    let held = store.renew(&key, claim.owner(), MINUTE).await.unwrap();
    assert_eq!(held, Ownership::Held);
    let held = store
        .complete(&key, claim.owner(), &record(&[b'x'; 65536]), MINUTE)
        .await;
    assert_eq!(held.unwrap(), Ownership::Held);
    assert_eq!(
        store.release(&other, others.owner()).await.unwrap(),
        Ownership::Held
    );
}

/// As a connection does that repeats commands by itself.
#[tokio::test]
async fn a_claim_that_arrives_twice_is_still_started() {
    let Some(server) = Server::start("a_claim_that_arrives_twice_is_still_started") else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let (key, claim) = (RecordKey::from_bytes([1; 32]), claim());
    for _ in 0..2 {
        assert!(matches!(
            store.begin(&key, &claim, MINUTE).await,
            Ok(Begin::Started)
        ));
    }
    let found = store
        .begin(&key, &support::entry::claim(), MINUTE)
        .await
        .unwrap();
    assert!(matches!(found, Begin::InProgress(f) if f == claim.fingerprint()));
}
