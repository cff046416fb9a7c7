//! What `RedisStore` costs beside the server's own commands on the same connection settings.
//!
//! `cargo bench -p benches --features redis --bench redis` starts a server of its own, or takes that of
//! `REDIS_URL`. A server of its own is measured with one replica as well. Figures are the medians of
//! interleaved rounds, at 64 commands in flight.
#![allow(clippy::unwrap_used, reason = "a bench that can't go on fails here")]
#![allow(missing_docs, reason = "nobody calls a bench")]

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, StatusCode};
use redis::IntoConnectionInfo;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use support::daemon::Daemon;
use support::process;
use tokio::task::JoinSet;
use tower_idempotency::RedisStore;
use tower_idempotency::store::{
    Begin, Claim, Fingerprint, Owner, Ownership, Record, RecordKey, Store,
};

const IN_FLIGHT: u64 = 64;
const ROUNDS: usize = 15;
const MINUTE: Duration = Duration::from_secs(60);

fn main() {
    let [port, replica] = process::free_ports();
    let given = std::env::var("REDIS_URL").ok();
    let server = given.is_none().then(|| start_server(port, &[]));
    let url = given.unwrap_or_else(|| format!("redis://127.0.0.1:{port}/"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        // As the store's own connection is: without a wait for more to send.
        let info = url.as_str().into_connection_info().unwrap();
        let settings = TcpSettings::default().set_nodelay(true);
        let client = redis::Client::open(info.set_tcp_settings(settings)).unwrap();
        let config = redis::AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(1024);
        let start = Instant::now();
        let raw = loop {
            match client
                .get_multiplexed_async_connection_with_config(&config)
                .await
            {
                Ok(raw) => break raw,
                Err(error) => assert!(start.elapsed() < MINUTE, "no server: {error}"),
            }
        };
        let store = RedisStore::connect(&url).await.unwrap();
        let compare_all = async || {
            for (bytes, count) in [(256, 40_000), (64 * 1024, 6_000)] {
                compare(&raw, &store, bytes, count).await;
            }
        };
        compare_all().await;
        if server.is_some() {
            let port = port.to_string();
            let _replica = start_server(replica, &["--replicaof", "127.0.0.1", &port]);
            replicated(&raw).await;
            // Replication is asynchronous: no command waits for the replica.
            println!("\nwith one replica:\n");
            compare_all().await;
        }
    });
    drop(server);
}

/// Starts a server in a folder of its own, where a replica leaves a file.
fn start_server(port: u16, settings: &[&str]) -> Daemon {
    let mut daemon = Daemon::new("bench-redis", port);
    let (folder, port) = (daemon.folder().to_str().unwrap(), port.to_string());
    let mut command = vec![
        "redis-server",
        "--port",
        &port,
        "--save",
        "",
        "--dir",
        folder,
    ];
    command.extend(["--bind", "127.0.0.1"]);
    command.extend(settings);
    let command = command.into_iter().map(str::to_owned).collect();
    let address = daemon.address();
    daemon.start(command, move || TcpStream::connect(address).is_ok());
    daemon
}

/// Waits until the replica has all that its primary has.
async fn replicated(primary: &MultiplexedConnection) {
    let (start, mut primary) = (Instant::now(), primary.clone());
    let mut command = redis::cmd("INFO");
    command.arg("replication");
    loop {
        let info: String = command.query_async(&mut primary).await.unwrap();
        if info.contains("state=online") {
            return;
        }
        assert!(start.elapsed() < MINUTE, "no replica: {info}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn compare(raw: &MultiplexedConnection, store: &RedisStore, bytes: usize, count: u64) {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(round(raw, store, bytes, count).await);
    }
    let median = |of: &dyn Fn(&Rates) -> f64| {
        let mut all: Vec<_> = rounds.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    println!("{bytes} bytes of body, {IN_FLIGHT} in flight, {ROUNDS} rounds of {count}:");
    println!(
        "  plain SET of a claim's size  {:>8.0}/s",
        median(&|r| r.set_small)
    );
    println!(
        "  plain SET NX GET of that     {:>8.0}/s, {:.2} of SET",
        median(&|r| r.set_nx_get),
        median(&|r| r.set_nx_get / r.set_small)
    );
    println!(
        "  plain SET of the body        {:>8.0}/s",
        median(&|r| r.set)
    );
    println!(
        "  plain GET of the body        {:>8.0}/s",
        median(&|r| r.get)
    );
    println!(
        "  claim                        {:>8.0}/s, {:.2} of SET",
        median(&|r| r.claim),
        median(&|r| r.claim / r.set_small)
    );
    println!(
        "  completion                   {:>8.0}/s, {:.2} of SET",
        median(&|r| r.complete),
        median(&|r| r.complete / r.set)
    );
    let first = |r: &Rates| 1.0 / (1.0 / r.claim + 1.0 / r.complete);
    let two_sets = |r: &Rates| 1.0 / (1.0 / r.set_small + 1.0 / r.set);
    println!(
        "  first write                  {:>8.0}/s, {:.2} of the two SETs",
        median(&first),
        median(&|r| first(r) / two_sets(r))
    );
    println!(
        "  replay                       {:>8.0}/s, {:.2} of GET",
        median(&|r| r.replay),
        median(&|r| r.replay / r.get)
    );
}

struct Rates {
    set_small: f64,
    set_nx_get: f64,
    set: f64,
    get: f64,
    claim: f64,
    complete: f64,
    replay: f64,
}

async fn round(raw: &MultiplexedConnection, store: &RedisStore, bytes: usize, count: u64) -> Rates {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let fingerprint = Fingerprint::from_bytes([1; 32]);
    let body = vec![b'x'; bytes];
    let record = Record::new(fingerprint, StatusCode::CREATED, &headers, Some(&body));
    let owners: Vec<_> = (0..count).map(|_| Owner::new()).collect();
    let set = |bytes: usize| {
        let (raw, body) = (raw.clone(), Arc::new(vec![b'x'; bytes]));
        move |n| {
            let (mut raw, body) = (raw.clone(), Arc::clone(&body));
            async move {
                let mut command = redis::cmd("SET");
                command.arg(name(n)).arg(&body[..]).arg("PX").arg(60_000);
                let () = command.query_async(&mut raw).await.unwrap();
            }
        }
    };
    let set_nx_get = {
        let (raw, body) = (raw.clone(), Arc::new(vec![b'x'; 54]));
        move |n| {
            let (mut raw, body) = (raw.clone(), Arc::clone(&body));
            async move {
                let mut command = redis::cmd("SET");
                command
                    .arg(name(n + count))
                    .arg(&body[..])
                    .arg("NX")
                    .arg("GET");
                let found: Option<Vec<u8>> = command
                    .arg("PX")
                    .arg(60_000)
                    .query_async(&mut raw)
                    .await
                    .unwrap();
                assert_eq!(found, None);
            }
        }
    };
    let get = {
        let raw = raw.clone();
        move |n| {
            let mut raw = raw.clone();
            async move {
                let found: Vec<u8> = redis::cmd("GET")
                    .arg(name(n))
                    .query_async(&mut raw)
                    .await
                    .unwrap();
                assert_eq!(found.len(), bytes);
            }
        }
    };
    // Behind one pointer, as the layer has its store.
    let shared = Arc::new((store.clone(), owners, record));
    let claim = |replay: bool| {
        let shared = Arc::clone(&shared);
        move |n| {
            let shared = Arc::clone(&shared);
            async move {
                let (store, owners, _) = &*shared;
                let claim = Claim::new(owners[n as usize], fingerprint);
                let found = store.begin(&key(n), &claim, MINUTE).await.unwrap();
                assert_eq!(matches!(found, Begin::Completed(_)), replay);
            }
        }
    };
    let complete = {
        let shared = Arc::clone(&shared);
        move |n| {
            let shared = Arc::clone(&shared);
            async move {
                let (store, owners, record) = &*shared;
                let owner = owners[n as usize];
                let held = store.complete(&key(n), owner, record, MINUTE).await;
                assert_eq!(held.unwrap(), Ownership::Held);
            }
        }
    };
    // Each from an empty server, since a growing table costs time.
    clear(raw).await;
    let set_small = rate(count, set(54)).await;
    clear(raw).await;
    let set_nx_get = rate(count, set_nx_get).await;
    clear(raw).await;
    let set = rate(count, set(bytes)).await;
    let get = rate(count, get).await;
    clear(raw).await;
    Rates {
        set_small,
        set_nx_get,
        set,
        get,
        claim: rate(count, claim(false)).await,
        complete: rate(count, complete).await,
        replay: rate(count, claim(true)).await,
    }
}

async fn clear(raw: &MultiplexedConnection) {
    let flushed = redis::cmd("FLUSHALL").query_async(&mut raw.clone()).await;
    let () = flushed.unwrap();
}

/// Runs a command for each number, so many at a time, and returns how many a second.
async fn rate<F, R>(count: u64, command: F) -> f64
where
    F: Fn(u64) -> R + Clone + Send + 'static,
    R: Future<Output = ()> + Send,
{
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for _ in 0..IN_FLIGHT {
        let (next, command) = (Arc::clone(&next), command.clone());
        tasks.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return;
                }
                command(n).await;
            }
        });
    }
    tasks.join_all().await;
    count as f64 / start.elapsed().as_secs_f64()
}

fn key(n: u64) -> RecordKey {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    RecordKey::from_bytes(bytes)
}

/// A name as long as those of the store.
fn name(n: u64) -> String {
    format!("plain-bench:{n:064}")
}
