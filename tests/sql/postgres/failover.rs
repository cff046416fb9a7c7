//! Connections whose server is no longer the right one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};
use tower_idempotency::PostgresStore;
use tower_idempotency::store::{Begin, Ownership, Store, StoreErrorKind};

use super::server::Server;
use crate::entry::{MINUTE, claim, key, must_start, record};

/// Fills the store's connections, so that each request has one of its own.
async fn all_at_once(store: &PostgresStore, first: u32) -> Vec<Result<Begin, StoreErrorKind>> {
    let mut requests = JoinSet::new();
    for n in first..first + 9 {
        let store = store.clone();
        requests.spawn(async move { store.begin(&key(n), &claim(), MINUTE).await });
    }
    let begun = requests.join_all().await.into_iter();
    begun.map(|begun| begun.map_err(|e| e.kind())).collect()
}

/// What ends or spoils all connections of the store, while its server goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_the_server_has_ended_or_spoilt_cost_no_request_its_protection() {
    let test = "connections_that_the_server_has_ended_or_spoilt";
    let Some(server) = Server::start(test) else {
        return;
    };
    let url = format!("{}?application_name=store", server.url());
    let others = "FROM pg_stat_activity WHERE application_name = 'store'";
    let terminate = format!("SELECT pg_terminate_backend(pid) {others}");
    for (what, sql, pause) in [
        ("57P01, admin_shutdown", terminate.as_str(), 0),
        (
            "57P05, idle_session_timeout",
            "ALTER SYSTEM SET idle_session_timeout = '200ms'; SELECT pg_reload_conf()",
            900,
        ),
    ] {
        server.ask("DROP TABLE IF EXISTS idempotency").await;
        let store = PostgresStore::connect(&url).await.unwrap();
        store.migrate().await.unwrap();
        for begun in all_at_once(&store, 0).await {
            assert!(matches!(begun, Ok(Begin::Started)), "{what}: {begun:?}");
        }
        server.ask(sql).await;
        sleep(Duration::from_millis(pause)).await;
        for begun in all_at_once(&store, 100).await {
            assert!(matches!(begun, Ok(Begin::Started)), "{what}: {begun:?}");
        }
        server
            .ask("ALTER SYSTEM RESET ALL; SELECT pg_reload_conf()")
            .await;
    }
}

/// A name that stands for one server first, and for another after a failover. The connections that
/// are there stay with the first.
struct Name {
    address: SocketAddr,
    stands_for: watch::Sender<SocketAddr>,
}

impl Name {
    async fn of(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stands_for = watch::Sender::new(server);
        let current = stands_for.subscribe();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let server = *current.borrow();
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(server).await else {
                        return;
                    };
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self {
            address,
            stands_for,
        }
    }

    fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address)
    }
}

/// The old primary goes on as a server that only reads, which is what a standby is. First, nothing
/// else is there; then the name stands for another server.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_only_server_replays_and_refuses_and_a_new_primary_is_followed() {
    let test = "a_read_only_server_replays_and_refuses_and_a_new_primary_is_followed";
    let (Some(old), Some(new)) = (Server::start(test), Server::start(test)) else {
        return;
    };
    let name = Name::of(old.address()).await;
    let store = PostgresStore::connect(&name.url()).await.unwrap();
    store.migrate().await.unwrap();
    let after = PostgresStore::connect(&new.url()).await.unwrap();
    after.migrate().await.unwrap();
    all_at_once(&store, 0).await;
    let (done, running, kept) = (key(1000), key(1001), record(b"{\"id\":1}"));
    let (by, runs) = (claim(), claim());
    must_start(store.begin(&done, &by, MINUTE).await);
    let held = store.complete(&done, by.owner(), &kept, MINUTE).await;
    assert_eq!(held.unwrap(), Ownership::Held);
    must_start(store.begin(&running, &runs, MINUTE).await);

    let set = "ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf()";
    old.ask(set).await;
    let start = Instant::now();
    for n in 2000.. {
        let begun = store.begin(&key(n), &claim(), MINUTE).await;
        // A setting is not there at once.
        if let Err(error) = begun {
            assert_eq!(error.kind(), StoreErrorKind::Unavailable);
            break;
        }
        assert!(start.elapsed() < MINUTE);
    }
    for _ in 0..20 {
        let replayed = store.begin(&done, &claim(), MINUTE).await.unwrap();
        assert!(matches!(replayed, Begin::Completed(found) if found == kept));
        let refused = store.begin(&running, &claim(), MINUTE).await.unwrap();
        assert!(matches!(refused, Begin::InProgress(_)));
        let own = store.begin(&running, &runs, MINUTE).await.unwrap();
        assert!(matches!(own, Begin::Started));
    }
    let checked = store.check().await.unwrap_err();
    assert_eq!(checked.kind(), StoreErrorKind::Misconfigured);

    // Long enough for all connections to count as old ones.
    sleep(Duration::from_millis(1200)).await;
    name.stands_for.send_replace(new.address());
    let store = Arc::new(store);
    for begun in all_at_once(&store, 3000).await {
        assert!(matches!(begun, Ok(Begin::Started)), "{begun:?}");
    }
    let claims = claim();
    must_start(store.begin(&key(4000), &claims, MINUTE).await);
    let found = after.begin(&key(4000), &claim(), MINUTE).await.unwrap();
    assert!(
        matches!(found, Begin::InProgress(_)),
        "the new primary has it"
    );
    store.check().await.unwrap();
}

/// What a request met, and when.
struct Sample {
    at: Instant,
    waited: Duration,
    is_protected: bool,
}

/// A primary dies under load, its standby is promoted, and the name stands for that one. What the
/// standby had received is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_promotion_under_load_keys_are_protected_by_the_new_primary() {
    let test = "after_a_promotion_under_load_keys_are_protected_by_the_new_primary";
    let Some(mut primary) = Server::start(test) else {
        return;
    };
    let name = Name::of(primary.address()).await;
    let store = PostgresStore::connect(&name.url()).await.unwrap();
    store.migrate().await.unwrap();
    let (done, by, kept) = (key(1), claim(), record(b"{\"id\":1}"));
    must_start(store.begin(&done, &by, MINUTE).await);
    let held = store.complete(&done, by.owner(), &kept, MINUTE).await;
    assert_eq!(held.unwrap(), Ownership::Held);
    let standby = tokio::task::block_in_place(|| primary.standby(test)).unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (store, stop) = (store.clone(), Arc::clone(&stop));
        async move {
            let (mut requests, mut n) = (JoinSet::new(), 100);
            let mut ticks = interval(Duration::from_millis(5));
            while !stop.load(Ordering::SeqCst) {
                ticks.tick().await;
                n += 1;
                let store = store.clone();
                requests.spawn(async move {
                    let (key, claim, at) = (key(n), claim(), Instant::now());
                    let begun = timeout(WAIT, store.begin(&key, &claim, MINUTE)).await;
                    let is_protected = matches!(begun, Ok(Ok(Begin::Started)));
                    let waited = at.elapsed();
                    Sample {
                        at,
                        waited,
                        is_protected,
                    }
                });
            }
            requests.join_all().await
        }
    });
    sleep(Duration::from_secs(1)).await;
    let died = Instant::now();
    tokio::task::block_in_place(|| primary.kill());
    sleep(Duration::from_secs(1)).await;
    // It serves before it is promoted, and takes no writes.
    name.stands_for.send_replace(standby.address());
    let replayed = async || store.begin(&done, &claim(), MINUTE).await;
    let start = Instant::now();
    while !matches!(replayed().await, Ok(Begin::Completed(found)) if found == kept) {
        assert!(start.elapsed() < MINUTE, "the standby does not replay");
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_secs(1)).await;
    standby.ask("SELECT pg_promote()").await;
    let promoted = Instant::now();
    while !matches!(store.begin(&key(2), &by, MINUTE).await, Ok(Begin::Started)) {
        assert!(promoted.elapsed() < MINUTE, "not protected again");
        sleep(Duration::from_millis(5)).await;
    }
    let back = promoted.elapsed();
    assert!(matches!(replayed().await, Ok(Begin::Completed(found)) if found == kept));
    sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::SeqCst);
    let samples = load.await.unwrap();
    let settled = promoted + back + WAIT;
    let unprotected = samples.iter().filter(|sample| !sample.is_protected);
    let longest = samples.iter().map(|sample| sample.waited).max().unwrap();
    println!(
        "PostgreSQL, a primary that dies, 2 s until its standby is promoted: {} requests, {} \
         unprotected, longest wait {longest:?}; protected again {back:?} after the promotion",
        samples.len(),
        unprotected.clone().count(),
    );
    assert!(unprotected.clone().any(|sample| sample.at > died));
    let late = unprotected.filter(|sample| sample.at > settled).count();
    let after = samples.iter().filter(|sample| sample.at > settled).count();
    assert!(
        late < after / 10 + 1,
        "{late} of {after} unprotected after the failover"
    );
}

const WAIT: Duration = Duration::from_millis(500);
