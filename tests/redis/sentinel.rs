//! A store that follows the master that Redis Sentinel names.

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::StatusCode;
use redis::FromRedisValue;
use support::entry::{MINUTE, claim, key};
use tokio::time::{interval, sleep};
use tower_idempotency::store::{Begin, Store, StoreErrorKind};
use tower_idempotency::{IdempotencyLayer, Outcome, RedisStore};

use crate::cluster_support::api;
use crate::cluster_support::daemon::Daemon;
use crate::cluster_support::process;
use crate::server::{self, Server, program};

const MASTER: &str = "redis://mymaster/";

/// A sentinel that ends with the test.
pub(crate) struct Sentinel(Daemon);

impl Sentinel {
    /// Starts a sentinel that watches a master, of which so many must think that it is down.
    fn start(master: &Server, quorum: usize, down_after: Duration) -> Self {
        let at = format!("127.0.0.1 {}", master.address().port());
        Self::start_with("", &at, quorum, down_after)
    }

    /// The same with more settings, and with a master at any address.
    pub(crate) fn start_with(
        settings: &str,
        master: &str,
        quorum: usize,
        down_after: Duration,
    ) -> Self {
        let more = settings;
        let [port] = process::free_ports();
        let mut daemon = Daemon::new("sentinel", port);
        let settings = daemon.folder().join("sentinel.conf");
        let folder = daemon.folder().display();
        let down_after = down_after.as_millis();
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {folder}\n{more}\
             sentinel monitor mymaster {master} {quorum}\n\
             sentinel down-after-milliseconds mymaster {down_after}\n\
             sentinel failover-timeout mymaster 2000\n"
        );
        fs::write(&settings, text).unwrap();
        let settings = settings.to_str().unwrap().to_owned();
        let command = [program().unwrap(), settings, "--sentinel".to_owned()];
        let client = redis::Client::open(format!("redis://{}/", daemon.address())).unwrap();
        daemon.start(command.to_vec(), move || client.get_connection().is_ok());
        Self(daemon)
    }

    fn url(&self) -> String {
        format!("redis://{}/", self.0.address())
    }

    fn ask<T: FromRedisValue>(&self, words: &str) -> T {
        server::ask(&self.url(), words).unwrap()
    }
}

/// Returns whether a server says this of its replication. While its role changes, it may cut
/// connections.
fn says(server: &Server, line: &str) -> bool {
    let info = server::ask::<String>(&server.url(), "INFO replication");
    info.is_ok_and(|info| info.contains(line))
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "not {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A master, its replica, and three sentinels that know each other.
struct Group {
    master: Server,
    replica: Server,
    sentinels: [Sentinel; 3],
}

impl Group {
    fn start(test: &str) -> Option<Self> {
        let master = Server::start(test)?;
        let port = master.address().port().to_string();
        let replica = Server::start_with(test, &["--replicaof", "127.0.0.1", &port])?;
        until("replicated", || says(&master, "state=online"));
        let down_after = Duration::from_secs(1);
        let sentinels = [(); 3].map(|()| Sentinel::start(&master, 2, down_after));
        until("found by the sentinels", || {
            sentinels.iter().all(|sentinel| {
                let known: HashMap<String, String> = sentinel.ask("SENTINEL MASTER mymaster");
                known["num-slaves"] == "1" && known["num-other-sentinels"] == "2"
            })
        });
        Some(Self {
            master,
            replica,
            sentinels,
        })
    }

    fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Sentinel::url).collect()
    }
}

/// What became of a key's first request.
struct Sent {
    key: String,
    answered: Instant,
    outcome: Outcome,
}

/// Sends a request every five milliseconds, each under a key of its own, until it is stopped.
async fn load(router: axum::Router, sent: Arc<Mutex<Vec<Sent>>>, stop: Arc<AtomicBool>) {
    let (run, mut ticks) = (api::run_id(), interval(Duration::from_millis(5)));
    let mut requests = tokio::task::JoinSet::new();
    while !stop.load(Ordering::SeqCst) {
        ticks.tick().await;
        let (router, sent) = (router.clone(), Arc::clone(&sent));
        let key = format!("{run}-{}", requests.len());
        requests.spawn(async move {
            let answer = api::call(&router, &key).await;
            assert_eq!(answer.status, StatusCode::CREATED);
            sent.lock().unwrap().push(Sent {
                key,
                answered: Instant::now(),
                outcome: answer.outcome,
            });
        });
    }
    requests.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_promotion_no_key_runs_twice_but_those_that_replication_lost() {
    let test = "after_a_promotion_no_key_runs_twice_but_those_that_replication_lost";
    let Some(mut group) = Group::start(test) else {
        return;
    };
    let store = RedisStore::connect_sentinel(group.urls(), MASTER)
        .await
        .unwrap();
    store.check().await.unwrap();
    let runs = Arc::<Mutex<HashMap<String, usize>>>::default();
    let router = {
        let runs = Arc::clone(&runs);
        api::router(IdempotencyLayer::new(store), move |key| {
            *runs.lock().unwrap().entry(key).or_default() += 1;
            async { (StatusCode::CREATED, "{}") }
        })
    };
    let (sent, stop) = (Arc::<Mutex<Vec<Sent>>>::default(), Arc::default());
    let loading = tokio::spawn(load(router.clone(), Arc::clone(&sent), Arc::clone(&stop)));

    sleep(Duration::from_secs(1)).await;
    // What was kept until here has reached the replica when the master says so, and can't be lost.
    let replicated = Instant::now();
    let acknowledged: usize = tokio::task::block_in_place(|| group.master.ask("WAIT 1 30000"));
    assert_eq!(acknowledged, 1);
    tokio::task::block_in_place(|| group.master.kill());
    let killed = Instant::now();
    // Nobody is promoted before the sentinels have missed the master for a second.
    let promoted = killed + Duration::from_millis(900);
    tokio::task::block_in_place(|| {
        until("protected", || {
            let sent = sent.lock().unwrap();
            let mut after = sent.iter().filter(|sent| sent.answered > promoted);
            after.any(|sent| sent.outcome == Outcome::Kept)
        });
    });
    let back = killed.elapsed();
    sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::SeqCst);
    loading.await.unwrap();
    assert!(says(&group.replica, "role:master"));

    let sent = std::mem::take(&mut *sent.lock().unwrap());
    let kept = sent.iter().filter(|sent| sent.outcome == Outcome::Kept);
    let (mut lost, mut safe) = (0, 0);
    for Sent { key, answered, .. } in kept {
        let answer = api::call(&router, key).await;
        let may_be_lost = *answered > replicated && *answered < promoted;
        match (answer.outcome, runs.lock().unwrap()[key]) {
            (Outcome::Replayed, 1) => safe += 1,
            (Outcome::Kept, 2) if may_be_lost => lost += 1,
            other => panic!(
                "{key}, answered {:?} after the kill: {other:?}",
                answered.saturating_duration_since(killed)
            ),
        }
    }
    println!(
        "a master killed: {}; protected again {back:?} later; of the keys kept, {safe} ran once, and \
         {lost} were lost, which replication did not get in the last {:?}",
        told(&sent),
        killed - replicated
    );

    // The one that comes back is a replica now; then it is the master again, on demand.
    tokio::task::block_in_place(|| {
        group.master.run();
        let asked: Vec<String> =
            group.sentinels[0].ask("SENTINEL GET-MASTER-ADDR-BY-NAME mymaster");
        assert_eq!(asked[1], group.replica.address().port().to_string());
        until("a replica", || {
            says(&group.master, "role:slave") && says(&group.master, "master_link_status:up")
        });
        // It is refused while the last failover is fresh, and until the replica is known as good.
        until("handed over", || {
            let failover = "SENTINEL FAILOVER mymaster";
            server::ask::<()>(&group.urls()[0], failover).is_ok()
        });
    });
    let stop = Arc::new(AtomicBool::new(false));
    let again = Arc::<Mutex<Vec<Sent>>>::default();
    let loading = tokio::spawn(load(router.clone(), Arc::clone(&again), Arc::clone(&stop)));
    tokio::task::block_in_place(|| {
        until("the master again", || says(&group.master, "role:master"));
        until("a replica", || says(&group.replica, "role:slave"));
        let changed = Instant::now();
        until("written to", || {
            let again = again.lock().unwrap();
            let mut last = again.iter().rev().take(10);
            last.len() == 10
                && last.all(|sent| sent.outcome == Outcome::Kept && sent.answered > changed)
        });
    });
    stop.store(true, Ordering::SeqCst);
    loading.await.unwrap();
    println!("a failover on demand: {}", told(&again.lock().unwrap()));
}

/// Says how many requests ran unprotected.
fn told(sent: &[Sent]) -> String {
    let unprotected = sent.iter().filter(|sent| sent.outcome != Outcome::Kept);
    format!(
        "{} of {} requests unprotected",
        unprotected.count(),
        sent.len()
    )
}

async fn must_start(store: &RedisStore, n: u32) {
    let start = Instant::now();
    loop {
        match store.begin(&key(n), &claim(), MINUTE).await {
            Ok(begun) => {
                assert!(matches!(begun, Begin::Started), "{begun:?}");
                return;
            }
            Err(error) => assert!(start.elapsed() < support::PATIENCE, "{error:?}"),
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Nothing breaks: the old master answers `READONLY` on the connection that is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_becomes_a_replica_is_left_for_the_one_that_the_sentinel_names() {
    let test = "a_master_that_becomes_a_replica_is_left";
    let (Some(old), Some(new)) = (Server::start(test), Server::start(test)) else {
        return;
    };
    // Alone, and too slow to do anything by itself.
    let sentinel = Sentinel::start(&old, 1, Duration::from_secs(3600));
    let store = RedisStore::connect_sentinel([sentinel.url()], MASTER);
    let store = store.await.unwrap();
    must_start(&store, 1).await;
    let port = new.address().port();
    old.ask::<()>(&format!("REPLICAOF 127.0.0.1 {port}"));
    let refused = store.begin(&key(2), &claim(), MINUTE).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
    sentinel.ask::<()>("SENTINEL REMOVE mymaster");
    sentinel.ask::<()>(&format!("SENTINEL MONITOR mymaster 127.0.0.1 {port} 1"));
    must_start(&store, 3).await;
    assert_eq!(new.ask::<usize>("DBSIZE"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_that_names_a_replica_or_is_down_is_passed_over() {
    let test = "a_sentinel_that_names_a_replica_or_is_down_is_passed_over";
    let (Some(replica), Some(master)) = (Server::start(test), Server::start(test)) else {
        return;
    };
    let long = Duration::from_secs(3600);
    let stale = Sentinel::start(&replica, 1, long);
    let right = Sentinel::start(&master, 1, long);
    let port = master.address().port();
    replica.ask::<()>(&format!("REPLICAOF 127.0.0.1 {port}"));
    let [down] = process::free_ports();
    let down = format!("redis://127.0.0.1:{down}/");
    let urls = [down.clone(), stale.url(), right.url()];
    let store = RedisStore::connect_sentinel(urls, MASTER).await.unwrap();
    must_start(&store, 1).await;
    assert_eq!(master.ask::<usize>("DBSIZE"), 1);

    let failures = [
        (vec![], MASTER, StoreErrorKind::Misconfigured),
        (
            vec![right.url()],
            "redis://other/",
            StoreErrorKind::Misconfigured,
        ),
        (
            vec![right.url()],
            "unix:///mymaster",
            StoreErrorKind::Misconfigured,
        ),
        (
            vec!["no address".into()],
            MASTER,
            StoreErrorKind::Misconfigured,
        ),
        (
            vec![right.url()],
            "redis://nobody:wrong@mymaster/",
            StoreErrorKind::Misconfigured,
        ),
        (
            vec![stale.url(), down.clone()],
            MASTER,
            StoreErrorKind::Unavailable,
        ),
        (vec![down], MASTER, StoreErrorKind::Unavailable),
    ];
    for (urls, master, kind) in failures {
        let failed = RedisStore::connect_sentinel(&urls, master).await;
        let failed = failed.expect_err(master);
        assert_eq!(failed.kind(), kind, "{urls:?} {master}: {failed:?}");
    }
}
