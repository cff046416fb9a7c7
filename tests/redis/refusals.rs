//! A server that refuses writes: what is kept is replayed, what runs is refused, what is new fails.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use redis::RedisResult;
use support::entry::{MINUTE, claim, key, record};
use tower_idempotency::RedisStore;
use tower_idempotency::store::{Begin, DynStore, Ownership, Store, StoreErrorKind};

use crate::cluster_support::fault::Fault;
use crate::cluster_support::outage;
use crate::server::{Server, ask};

/// A way in which a server comes to refuse writes, and back.
struct Refusal {
    /// What the server answers.
    code: &'static str,
    settings: &'static [&'static str],
    prepare: fn(&Server),
    hurt: fn(&Server),
    heal: fn(&Server),
    kind: StoreErrorKind,
    /// Whether it still reads.
    reads: bool,
    /// Whether it still answers an operator who looks at it.
    shows_clients: bool,
}

const REFUSALS: &[Refusal] = &[
    Refusal {
        code: "OOM",
        settings: &["--maxmemory-policy", "noeviction"],
        prepare: |_| {},
        hurt: |server| server.ask("CONFIG SET maxmemory 1"),
        heal: |server| server.ask("CONFIG SET maxmemory 0"),
        kind: StoreErrorKind::Full,
        reads: true,
        shows_clients: true,
    },
    Refusal {
        code: "NOREPLICAS",
        settings: &[],
        prepare: |_| {},
        hurt: |server| server.ask("CONFIG SET min-replicas-to-write 1"),
        heal: |server| server.ask("CONFIG SET min-replicas-to-write 0"),
        kind: StoreErrorKind::Unavailable,
        reads: true,
        shows_clients: true,
    },
    Refusal {
        code: "MISCONF",
        settings: &["--enable-protected-configs", "yes"],
        prepare: |_| {},
        hurt: |server| {
            // Snapshots go to a folder that is not there any more.
            let gone = server.folder().join("gone");
            fs::create_dir(&gone).unwrap();
            server.ask::<()>(&format!("CONFIG SET dir {}", gone.display()));
            fs::remove_dir(&gone).unwrap();
            let mut save = redis::cmd("CONFIG");
            save.arg("SET").arg("save").arg("3600 1");
            let () = save.query(&mut server.look()).unwrap();
            let _: redis::Value = server.ask("BGSAVE");
            wait_for(server, "INFO persistence", "rdb_last_bgsave_status:err");
        },
        heal: |server| server.ask("CONFIG SET stop-writes-on-bgsave-error no"),
        kind: StoreErrorKind::Unavailable,
        reads: true,
        shows_clients: true,
    },
    Refusal {
        code: "READONLY",
        settings: &[],
        prepare: |_| {},
        // Of a primary that is not there, so that it keeps what it has.
        hurt: |server| server.ask("REPLICAOF 127.0.0.1 1"),
        heal: |server| server.ask("REPLICAOF NO ONE"),
        kind: StoreErrorKind::Unavailable,
        reads: true,
        shows_clients: true,
    },
    Refusal {
        code: "MASTERDOWN",
        settings: &[
            "--replica-serve-stale-data",
            "no",
            "--replica-read-only",
            "no",
        ],
        prepare: |_| {},
        hurt: |server| server.ask("REPLICAOF 127.0.0.1 1"),
        heal: |server| server.ask("REPLICAOF NO ONE"),
        kind: StoreErrorKind::Unavailable,
        reads: false,
        shows_clients: true,
    },
    Refusal {
        code: "LOADING",
        settings: &[
            "--enable-debug-command",
            "yes",
            // It looks at its clients after each kilobyte that it has loaded.
            "--loading-process-events-interval-bytes",
            "1024",
        ],
        prepare: |server| server.ask("DEBUG POPULATE 20000"),
        hurt: |server| {
            // A millisecond for each key.
            server.ask::<()>("CONFIG SET key-load-delay 1000");
            let url = server.url();
            thread::spawn(move || ask::<()>(&url, "DEBUG RELOAD"));
            wait_until_it_answers(server, "LOADING");
        },
        heal: |server| {
            server.ask::<()>("CONFIG SET key-load-delay 0");
            wait_until_it_works(server);
        },
        kind: StoreErrorKind::Unavailable,
        reads: false,
        shows_clients: false,
    },
    Refusal {
        code: "BUSY",
        settings: &["--busy-reply-threshold", "10"],
        prepare: |_| {},
        hurt: |server| {
            let mut look = server.look();
            thread::spawn(move || {
                let mut script = redis::cmd("EVAL");
                script.arg("while true do end").arg(0).exec(&mut look)
            });
            wait_until_it_answers(server, "BUSY");
        },
        heal: |server| {
            server.ask::<()>("SCRIPT KILL");
            wait_until_it_works(server);
        },
        kind: StoreErrorKind::Unavailable,
        reads: false,
        shows_clients: false,
    },
    Refusal {
        code: "CLUSTERDOWN",
        settings: &[
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            "0",
            "--cluster-allow-reads-when-down",
            "yes",
        ],
        prepare: |server| {
            server.ask::<()>("CLUSTER ADDSLOTSRANGE 0 16383");
            wait_for(server, "CLUSTER INFO", "cluster_state:ok");
        },
        hurt: |server| {
            let slot = free_slot(server);
            server.ask::<()>(&format!("CLUSTER DELSLOTS {slot}"));
            wait_for(server, "CLUSTER INFO", "cluster_state:fail");
        },
        heal: |server| {
            let slot = free_slot(server);
            server.ask::<()>(&format!("CLUSTER ADDSLOTS {slot}"));
            wait_for(server, "CLUSTER INFO", "cluster_state:ok");
        },
        kind: StoreErrorKind::Unavailable,
        reads: true,
        shows_clients: true,
    },
    Refusal {
        code: "NOPERM",
        settings: &[],
        prepare: |_| {},
        hurt: |server| server.ask("ACL SETUSER default -set -eval -evalsha"),
        heal: |server| server.ask("ACL SETUSER default +set +eval +evalsha"),
        kind: StoreErrorKind::Misconfigured,
        reads: true,
        shows_clients: true,
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_writes_replays_refuses_duplicates_and_fails_what_is_new() {
    for refusal in REFUSALS {
        let test = format!("a server that answers {}", refusal.code);
        let Some(server) = Server::start_with(&test, refusal.settings) else {
            return;
        };
        (refusal.prepare)(&server);
        meets(&server, refusal).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_refuses_hurts_no_request_and_loses_nothing() {
    for refusal in REFUSALS {
        let test = format!("a server that answers {} under load", refusal.code);
        let Some(server) = Server::start_with(&test, refusal.settings) else {
            return;
        };
        (refusal.prepare)(&server);
        let store = DynStore::new(RedisStore::connect(&server.url()).await.unwrap());
        let fault = Fault {
            what: refusal.code,
            // It may be too busy to refuse.
            kinds: &[refusal.kind, StoreErrorKind::Timeout],
            reads: refusal.reads,
            every: outage::EVERY,
        };
        let (hurt, heal) = (|| (refusal.hurt)(&server), || (refusal.heal)(&server));
        fault.hurts_no_request(&store, hurt, heal).await;
    }
}

async fn meets(server: &Server, refusal: &Refusal) {
    let code = refusal.code;
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let [kept, running] = [claim(), claim()];
    for (n, claim) in [(1, &kept), (2, &running)] {
        let begun = store.begin(&key(n), claim, MINUTE).await;
        assert!(matches!(begun, Ok(Begin::Started)), "{code}: {begun:?}");
    }
    let held = store
        .complete(&key(1), kept.owner(), &record(b"{}"), MINUTE)
        .await;
    assert_eq!(held.unwrap(), Ownership::Held);

    (refusal.hurt)(server);
    // Long enough for the store to take to another connection, where the code makes it do so.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(300) {
        let begun = store.begin(&key(3), &claim(), MINUTE).await;
        let error = begun.expect_err(code);
        assert_eq!(error.kind(), refusal.kind, "{code}: {error:?}");
        let source = std::error::Error::source(&error).unwrap();
        let source = source.downcast_ref::<redis::RedisError>().unwrap();
        assert_eq!(source.code(), Some(code), "{source:?}");
        let replayed = store.begin(&key(1), &claim(), MINUTE).await;
        let refused = store.begin(&key(2), &claim(), MINUTE).await;
        if refusal.reads {
            assert!(
                matches!(&replayed, Ok(Begin::Completed(found)) if *found == record(b"{}")),
                "{code}: {replayed:?}"
            );
            assert!(
                matches!(refused, Ok(Begin::InProgress(_))),
                "{code}: {refused:?}"
            );
        } else {
            for begun in [replayed, refused] {
                assert_eq!(begun.expect_err(code).kind(), refusal.kind);
            }
        }
    }
    // The store has one, and one that it is about to leave; the third is this one.
    if refusal.shows_clients {
        let clients: String = server.ask("CLIENT LIST TYPE normal");
        assert!(clients.lines().count() <= 3, "{code}: {clients}");
    }
    // What it fails at is said by the owner's steps, too, except that a full server takes them.
    let renewed = store.renew(&key(2), running.owner(), MINUTE).await;
    match refusal.kind {
        StoreErrorKind::Full => assert_eq!(renewed.unwrap(), Ownership::Held),
        kind => assert_eq!(renewed.expect_err(code).kind(), kind),
    }

    (refusal.heal)(server);
    let begun = store.begin(&key(3), &claim(), MINUTE).await;
    assert!(matches!(begun, Ok(Begin::Started)), "{code}: {begun:?}");
    let found = store.begin(&key(1), &claim(), MINUTE).await.unwrap();
    assert!(matches!(found, Begin::Completed(found) if found == record(b"{}")));
    let held = store
        .complete(&key(2), running.owner(), &record(b"2"), MINUTE)
        .await;
    assert_eq!(held.unwrap(), Ownership::Held);
}

fn wait_for(server: &Server, command: &str, line: &str) {
    let start = Instant::now();
    loop {
        let info: String = server.ask(command);
        if info.lines().any(|found| found == line) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{info}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a server refuses to do anything.
fn wait_until_it_answers(server: &Server, code: &str) {
    wait(server, |answer| {
        answer.is_err_and(|error| error.code() == Some(code))
    });
}

fn wait_until_it_works(server: &Server) {
    wait(server, |answer| answer.is_ok());
}

fn wait(server: &Server, is_so: impl Fn(RedisResult<redis::Value>) -> bool) {
    let start = Instant::now();
    while !is_so(ask(&server.url(), "GET none")) {
        assert!(start.elapsed() < Duration::from_secs(30));
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns a slot in which none of the test's keys is.
fn free_slot(server: &Server) -> u16 {
    let used = [1, 2, 3].map(|n| {
        let name = format!("idempotency:{}", key(n));
        server.ask::<u16>(&format!("CLUSTER KEYSLOT {name}"))
    });
    (0..).find(|slot| !used.contains(slot)).unwrap()
}
