//! `check`, what it is there to find, and what a connection does that somebody else uses wrongly.

use std::error::Error;

use support::entry::{MINUTE, claim, key, record};
use tower_idempotency::store::{Begin, Ownership, RecordKey, Store, StoreErrorKind};
use tower_idempotency::{RedisStore, StoreError};

use crate::cluster_support::process;
use crate::server::Server;

/// Keeps a record under a key.
async fn keep(store: &RedisStore, key: &RecordKey, body: &[u8]) {
    let claim = claim();
    let begun = store.begin(key, &claim, MINUTE).await.unwrap();
    assert!(matches!(begun, Begin::Started), "{begun:?}");
    let record = record(body);
    let held = store.complete(key, claim.owner(), &record, MINUTE).await;
    assert_eq!(held.unwrap(), Ownership::Held);
}

/// Returns the kind of an error, and all that it and its causes say.
fn said(error: &StoreError) -> (StoreErrorKind, String) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(found) = cause {
        text += &format!(": {found}");
        cause = found.source();
    }
    (error.kind(), text)
}

#[tokio::test]
async fn check_says_what_is_wrong_with_a_server_and_leaves_nothing_behind() {
    let test = "check_says_what_is_wrong_with_a_server_and_leaves_nothing_behind";
    let Some(server) = Server::start(test) else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let kept = key(1);
    keep(&store, &kept, b"{}").await;
    store.check().await.unwrap();
    assert_eq!(
        server.ask::<Vec<String>>("KEYS *"),
        [format!("idempotency:{kept}")]
    );

    use StoreErrorKind::{Full, Misconfigured, Unavailable};
    let faults = [
        (
            "CONFIG SET maxmemory-policy allkeys-lru",
            "CONFIG SET maxmemory-policy noeviction",
            Misconfigured,
            "allkeys-lru",
        ),
        (
            "CONFIG SET maxmemory-policy volatile-ttl",
            "CONFIG SET maxmemory-policy noeviction",
            Misconfigured,
            "volatile-ttl",
        ),
        (
            "REPLICAOF 127.0.0.1 1",
            "REPLICAOF NO ONE",
            Misconfigured,
            "replica",
        ),
        (
            "CONFIG SET min-replicas-to-write 1",
            "CONFIG SET min-replicas-to-write 0",
            Unavailable,
            "min-replicas-to-write",
        ),
        (
            "CONFIG SET maxmemory 1",
            "CONFIG SET maxmemory 0",
            Full,
            "maxmemory",
        ),
        (
            "ACL SETUSER default -evalsha",
            "ACL SETUSER default +evalsha",
            Misconfigured,
            "allow",
        ),
        // Its settings can't be read, so the steps find it.
        (
            "ACL SETUSER default -info -set",
            "ACL SETUSER default +@all",
            Misconfigured,
            "allow",
        ),
    ];
    for (hurt, heal, kind, word) in faults {
        server.ask::<()>(hurt);
        let (found, text) = said(&store.check().await.expect_err(hurt));
        assert_eq!(found, kind, "{hurt}: {text}");
        assert!(text.contains(word), "{hurt}: {text}");
        server.ask::<()>(heal);
        store.check().await.unwrap();
    }
    assert_eq!(
        server.ask::<Vec<String>>("KEYS *"),
        [format!("idempotency:{kept}")]
    );
    let found = store.begin(&kept, &claim(), MINUTE).await.unwrap();
    assert!(matches!(found, Begin::Completed(found) if found == record(b"{}")));
}

#[cfg(feature = "tracing")]
#[tokio::test]
async fn settings_that_cannot_be_read_are_a_warning_and_no_error() {
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::util::SubscriberInitExt;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let test = "settings_that_cannot_be_read_are_a_warning_and_no_error";
    let Some(server) = Server::start(test) else {
        return;
    };
    let log = Log::default();
    let writer = log.clone();
    let logging = tracing_subscriber::fmt().with_writer(move || writer.clone());
    let _logging = logging.with_ansi(false).finish().set_default();
    let warned = || {
        let lines = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let mut lines = lines.lines().map(str::to_owned);
        lines.any(|line| line.contains("WARN") && line.contains("maxmemory-policy"))
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    store.check().await.unwrap();
    assert!(!warned());
    server.ask::<()>("ACL SETUSER default -info");
    store.check().await.unwrap();
    assert!(warned());
}

#[tokio::test]
async fn check_connects_and_says_why_it_could_not() {
    let [port] = process::free_ports();
    let store = RedisStore::connect_lazy(&format!("redis://127.0.0.1:{port}/")).unwrap();
    assert_eq!(
        store.check().await.unwrap_err().kind(),
        StoreErrorKind::Unavailable
    );
    let Some(_server) = Server::start_at("check_connects_and_says_why_it_could_not", port, &[])
    else {
        return;
    };
    store.check().await.unwrap();
    for url in [
        "no address",
        "http://127.0.0.1/",
        "redis://127.0.0.1/database",
    ] {
        let refused = RedisStore::connect_lazy(url).unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Misconfigured, "{url}");
    }
}

/// What `maxmemory-policy allkeys-lru` means: a write that was kept runs again, well before its ttl.
#[tokio::test]
async fn a_server_that_evicts_forgets_a_kept_record_and_check_says_so() {
    let test = "a_server_that_evicts_forgets_a_kept_record_and_check_says_so";
    let settings = ["--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru"];
    let Some(server) = Server::start_with(test, &settings) else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    keep(&store, &key(0), b"{}").await;
    let found = store.begin(&key(0), &claim(), MINUTE).await.unwrap();
    assert!(matches!(found, Begin::Completed(_)));
    // Other records alone are enough.
    let body = vec![b'x'; 16 * 1024];
    let evicted = || server.ask::<usize>(&format!("EXISTS idempotency:{}", key(0))) == 0;
    for n in 1.. {
        keep(&store, &key(n), &body).await;
        if evicted() {
            println!("allkeys-lru at 4 MiB: a kept record was gone after {n} others of 16 KiB");
            break;
        }
        assert!(n < 10_000, "nothing is evicted");
    }
    let found = store.begin(&key(0), &claim(), MINUTE).await.unwrap();
    assert!(matches!(found, Begin::Started), "{found:?}");
    let (kind, text) = said(&store.check().await.unwrap_err());
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(
        text.contains("allkeys-lru") && text.contains("noeviction"),
        "{text}"
    );
}

/// The server only notes the store's steps then. None may be taken for done.
#[tokio::test]
async fn inside_a_transaction_of_somebody_else_each_step_fails_until_it_ends() {
    let test = "inside_a_transaction_of_somebody_else_each_step_fails_until_it_ends";
    let Some(server) = Server::start(test) else {
        return;
    };
    let client = redis::Client::open(server.url()).unwrap();
    let mut shared = client.get_multiplexed_async_connection().await.unwrap();
    let store = RedisStore::new(shared.clone());
    for (n, end, is_there) in [(1, "EXEC", true), (2, "DISCARD", false)] {
        let (key, first) = (key(n), claim());
        let () = redis::cmd("MULTI").query_async(&mut shared).await.unwrap();
        let unavailable = Err(StoreErrorKind::Unavailable);
        let begun = store.begin(&key, &first, MINUTE).await;
        assert_eq!(begun.map(drop).map_err(|error| error.kind()), unavailable);
        let owner = first.owner();
        let steps = [
            store.renew(&key, owner, MINUTE).await,
            store.complete(&key, owner, &record(b"{}"), MINUTE).await,
        ];
        for step in steps {
            assert_eq!(step.map(drop).map_err(|error| error.kind()), unavailable);
        }
        // What it says of the scripts, which nobody has sent it yet, does not matter here.
        let _ended: Result<redis::Value, _> = redis::cmd(end).query_async(&mut shared).await;
        let found = store.begin(&key, &claim(), MINUTE).await.unwrap();
        assert_eq!(
            !matches!(found, Begin::Started),
            is_there,
            "{end}: {found:?}"
        );
    }
}
