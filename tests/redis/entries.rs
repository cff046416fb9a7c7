//! What the store writes under a key, and how it reads what it finds there.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use redis::FromRedisValue;
use tower_idempotency::RedisStore;
use tower_idempotency::store::{
    Begin, Claim, Fingerprint, Owner, Ownership, Record, RecordKey, Store, StoreErrorKind,
};

use crate::server::Server;

const MINUTE: Duration = Duration::from_secs(60);

fn claim() -> Claim {
    Claim::new(Owner::new(), Fingerprint::from_bytes([1; 32]))
}

fn record(body: &[u8]) -> Record {
    let fingerprint = Fingerprint::from_bytes([1; 32]);
    Record::new(
        fingerprint,
        StatusCode::CREATED,
        &HeaderMap::new(),
        Some(body),
    )
}

fn ask<T: FromRedisValue>(server: &Server, command: &[&str]) -> T {
    let (name, arguments) = command.split_first().unwrap();
    let mut command = redis::cmd(name);
    command.arg(arguments).query(&mut server.look()).unwrap()
}

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
    assert_eq!(ask::<Vec<String>>(&server, &["KEYS", "*"]), [&*name]);
    let left = || ask::<u64>(&server, &["PTTL", &name]);
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
    let mut bytes: Vec<u8> = ask(&server, &["GET", &name]);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let () = redis::cmd("SET")
        .arg(&name)
        .arg(&bytes)
        .arg("KEEPTTL")
        .query(&mut server.look())
        .unwrap();
    corrupt(store.begin(&key, &self::claim(), MINUTE).await);
    for bytes in [bytes, Vec::new()] {
        let mut set = redis::cmd("SET");
        set.arg(&name).arg(&bytes).arg("KEEPTTL");
        let () = set.query(&mut server.look()).unwrap();
        let record = record(b"{}");
        let completed = store.complete(&key, claim.owner(), &record, MINUTE).await;
        assert_eq!(completed.unwrap(), Ownership::Lost);
        assert_eq!(ask::<Vec<u8>>(&server, &["GET", &name]), bytes);
    }

    let key = RecordKey::from_bytes([2; 32]);
    let name = format!("idempotency:{key}");
    let () = ask(&server, &["LPUSH", &name, "a list"]);
    corrupt(store.begin(&key, &claim, MINUTE).await);
    let released = store.release(&key, claim.owner()).await;
    assert_eq!(released.unwrap_err().kind(), StoreErrorKind::Corrupt);
    let record = record(b"{}");
    let completed = store.complete(&key, claim.owner(), &record, MINUTE).await;
    assert_eq!(completed.unwrap_err().kind(), StoreErrorKind::Corrupt);
    assert_eq!(ask::<u64>(&server, &["LLEN", &name]), 1);
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
    let others = self::claim();
    assert!(matches!(
        store.begin(&other, &others, MINUTE).await,
        Ok(Begin::Started)
    ));
    let () = ask(&server, &["CONFIG", "SET", "maxmemory", "1"]);
    let refused = store
        .begin(&RecordKey::from_bytes([3; 32]), &self::claim(), MINUTE)
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

#[tokio::test]
async fn a_user_with_the_commands_of_the_docs_may_take_every_step() {
    let Some(server) = Server::start("a_user_with_the_commands_of_the_docs") else {
        return;
    };
    let commands = "+SET +GET +GETRANGE +PEXPIRE +DEL +EVAL +EVALSHA";
    let mut user = vec!["ACL", "SETUSER", "app", "on", ">secret", "~idempotency:*"];
    user.extend(commands.split(' '));
    let () = ask(&server, &user);
    let url = format!("redis://app:secret@{}/", server.address());
    let store = RedisStore::connect(&url).await.unwrap();
    let key = RecordKey::from_bytes([1; 32]);
    let first = claim();
    let begun = store.begin(&key, &first, MINUTE).await;
    assert!(matches!(begun, Ok(Begin::Started)), "{begun:?}");
    let renewed = store.renew(&key, first.owner(), MINUTE).await;
    assert_eq!(renewed.unwrap(), Ownership::Held);
    let released = store.release(&key, first.owner()).await;
    assert_eq!(released.unwrap(), Ownership::Held);
    // Late, and then once more.
    for expected in [Ownership::Held, Ownership::Lost] {
        let record = record(b"{}");
        let completed = store.complete(&key, first.owner(), &record, MINUTE).await;
        assert_eq!(completed.unwrap(), expected);
    }
    let begun = store.begin(&key, &claim(), MINUTE).await;
    assert!(matches!(begun, Ok(Begin::Completed(_))), "{begun:?}");
    let () = ask(&server, &["CONFIG", "SET", "maxmemory", "1"]);
    // A full server is looked at by a command of its own.
    let begun = store.begin(&key, &claim(), MINUTE).await;
    assert!(matches!(begun, Ok(Begin::Completed(_))), "{begun:?}");
}

/// A connection that repeats commands by itself does this.
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
    let found = store.begin(&key, &self::claim(), MINUTE).await.unwrap();
    assert!(matches!(found, Begin::InProgress(f) if f == claim.fingerprint()));
}
