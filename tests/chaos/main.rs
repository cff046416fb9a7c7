//! Chaos over sockets: clients that hang up, a handler that fails, a store with outages, and at the
//! end a ledger in which every operation must be exactly once.
//!
//! ```text
//! cargo test -p chaos -- --seconds 30 --seed 1
//! ```
//!
//! An outage of the store's `begin` makes the layer fail open, so exactly once is not promised then:
//! those operations are counted apart, and so are those whose lease or ttl ended under them because
//! the machine stood still. All others must be in the ledger once, and every answer must be the
//! ledger's.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

mod client;
mod connection;
mod plan;
mod server;
mod store;

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use support::{Fault, Random, Scripted};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{Detached, IdempotencyLayer, MemoryStore};

use self::client::{Client, Seen, record_key};
use self::plan::{LEASE, MAX_RESPONSE_BYTES, STORE_TIMEOUT, TTL};
use self::server::{Planned, Server};
use self::store::{Outage, Outages};

fn main() -> ExitCode {
    let Some(options) = Options::read() else {
        return ExitCode::SUCCESS;
    };
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Planned>() {
            report(info);
        }
    }));
    println!("chaos: {} s, --seed {}", options.seconds, options.seed);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let violations = runtime.block_on(run(&options));
    for violation in violations.iter().take(20) {
        eprintln!("chaos: VIOLATED: {violation}");
    }
    let is_ok = violations.is_empty();
    if !is_ok {
        let count = violations.len();
        eprintln!("chaos: {count} violations with --seed {}", options.seed);
    }
    // As the usual test harness says it, for whoever adds results up.
    let (word, passed) = if is_ok { ("ok", 1) } else { ("FAILED", 0) };
    let failed = 1 - passed;
    println!("\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored\n");
    ExitCode::from(failed)
}

struct Options {
    seconds: u64,
    seed: u64,
}

impl Options {
    /// Reads the arguments; `None` says that a filter for other tests leaves nothing to do.
    fn read() -> Option<Self> {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        let mut options = Self {
            seconds: 5,
            seed: now.as_nanos() as u64,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let number = arguments.next().and_then(|number| number.parse().ok());
                number.unwrap_or_else(|| panic!("{argument} needs a number"))
            };
            match argument.as_str() {
                "--seconds" => options.seconds = number(),
                "--seed" => options.seed = number(),
                "--list" => {
                    println!("chaos: test");
                    return None;
                }
                filter if !filter.starts_with('-') && !"chaos".contains(filter) => return None,
                // Other flags are for the usual test harness.
                _ => {}
            }
        }
        Some(options)
    }
}

async fn run(options: &Options) -> Vec<String> {
    let seed = options.seed;
    let scripted = Scripted::new(Outages::default());
    let store = Arc::clone(&scripted.director);
    let server = Server::new(seed);
    let layer = IdempotencyLayer::new(scripted.clone())
        .lease(LEASE)
        .ttl(TTL)
        .store_timeout(STORE_TIMEOUT)
        .max_response_bytes(MAX_RESPONSE_BYTES);
    let detached = layer.detached();
    let address = support::serve(server.router().layer(layer)).await;
    // What is there before any client.
    let tasks = Handle::current().metrics().num_alive_tasks();
    let memory = resident();

    let client = Client {
        address,
        seed,
        seen: Arc::new(Seen::default()),
    };
    let seen = Arc::clone(&client.seen);
    let outages = Arc::new(AtomicUsize::new(0));
    let mut around = JoinSet::new();
    around.spawn(measure_stalls(Arc::clone(&store)));
    around.spawn(make_outages(seed, Arc::clone(&store), Arc::clone(&outages)));
    let operations = operate(client, Duration::from_secs(options.seconds)).await;
    around.shutdown().await;
    store.set(None);

    if detached.wait(LEASE * 4).await.is_err() {
        seen.violated(format!("{detached:?} after {:?}", LEASE * 4));
    }
    let base = wait_for_base(&scripted.memory, tasks, &detached).await;
    if let Err(rule) = base {
        seen.violated(rule);
    }
    let result = check_ledger(seed, operations, &store, &server, &seen);
    let of = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    println!(
        "chaos: survived {} requests of {operations} operations, {} of them by two clients at once\n\
         chaos:   {} disconnects: {} in the request, {} in the handler, {} in the response\n\
         chaos:   {} torn uploads, {} panics, {} broken bodies, {} times 503, {} broken connections\n\
         chaos:   {} times 409, {} replays, {} of them without the body\n\
         chaos:   {} store outages with {} failed calls; longest stall of the machine {:?}\n\
         chaos: {} operations exactly once; set apart: {} under an outage of begin, {} outlived\n\
         chaos: {} connections refused; resident memory {} KiB before, {} KiB after",
        of(&seen.requests),
        of(&seen.twins),
        of(&seen.cut_requests) + of(&seen.cut_waits) + of(&seen.cut_responses),
        of(&seen.cut_requests),
        of(&seen.cut_waits),
        of(&seen.cut_responses),
        of(&server.torn_uploads),
        of(&server.panics),
        of(&server.broken_bodies),
        of(&seen.unavailable),
        of(&seen.broken_connections),
        of(&seen.conflicts),
        of(&seen.replays),
        of(&seen.omitted),
        of(&outages),
        of(&store.failed_calls),
        store.longest_stall(),
        result.once,
        result.exposed,
        result.outlived,
        of(&seen.refused_connections),
        memory,
        resident(),
    );
    std::mem::take(&mut *seen.violations.lock().unwrap())
}

/// Lets clients work for some time, and then finish what they are at; returns how many operations
/// that was.
async fn operate(client: Client, time: Duration) -> u64 {
    let end = Instant::now() + time;
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (client, next) = (client.clone(), Arc::clone(&next));
        clients.spawn(async move {
            while Instant::now() < end {
                let operation = next.fetch_add(1, Ordering::Relaxed);
                client.operate(operation).await;
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        if let Err(error) = ended {
            client.seen.violated(format!("a client failed: {error}"));
        }
    }
    next.load(Ordering::Relaxed)
}

/// Breaks the store for short times, all much shorter than a lease.
async fn make_outages(seed: u64, store: Arc<Outages>, count: Arc<AtomicUsize>) {
    let mut random = Random::new(seed, u64::MAX);
    loop {
        sleep(Duration::from_millis(random.within(200..600))).await;
        count.fetch_add(1, Ordering::Relaxed);
        let of_begin = random.is_one_in(8);
        let fault = match random.within(0..4) {
            0 => Fault::Fail(StoreErrorKind::Unavailable),
            1 => Fault::FailAfter(StoreErrorKind::Unavailable),
            2 => Fault::Hang,
            _ => Fault::HangAfter,
        };
        store.set(Some(Outage { fault, of_begin }));
        let length = if of_begin { 20..80 } else { 50..250 };
        sleep(Duration::from_millis(random.within(length))).await;
        store.set(None);
    }
}

/// Notes the times at which the machine had no time for us.
async fn measure_stalls(store: Arc<Outages>) {
    let beat = Duration::from_millis(10);
    loop {
        let start = Instant::now();
        sleep(beat).await;
        let late = start.elapsed().saturating_sub(beat);
        if late > beat * 2 {
            store.stalled(late);
        }
    }
}

/// Waits until the store is empty and no task is left over.
async fn wait_for_base(
    store: &MemoryStore,
    tasks: usize,
    detached: &Detached,
) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let alive = Handle::current().metrics().num_alive_tasks();
        let (keys, bytes) = (store.len(), store.bytes());
        if (keys, bytes, alive, detached.count()) == (0, 0, tasks, 0) {
            return Ok(());
        }
        if start.elapsed() > TTL + LEASE + Duration::from_secs(10) {
            return Err(format!(
                "not back at the base: {keys} keys, {bytes} bytes, {alive} tasks after {tasks}"
            ));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

struct Checked {
    once: usize,
    exposed: usize,
    outlived: usize,
}

fn check_ledger(
    seed: u64,
    operations: u64,
    store: &Outages,
    server: &Server,
    seen: &Seen,
) -> Checked {
    let ledger = server.ledger.lock().unwrap();
    let mut times = HashMap::<u64, usize>::new();
    for operation in &*ledger {
        *times.entry(*operation).or_default() += 1;
    }
    for (operation, entry) in &*seen.answers.lock().unwrap() {
        if ledger.get(*entry) != Some(operation) {
            let rule =
                format!("operation {operation} was answered with entry {entry}, which is not its");
            seen.violated(rule);
        }
    }
    let mut checked = Checked {
        once: 0,
        exposed: 0,
        outlived: 0,
    };
    for operation in 0..operations {
        let key = record_key(seed, operation);
        match times.get(&operation).copied().unwrap_or(0) {
            0 => seen.violated(format!("operation {operation} is not in the ledger")),
            _ if store.is_exposed(&key) => checked.exposed += 1,
            _ if store.is_outlived(&key) => checked.outlived += 1,
            1 => checked.once += 1,
            n => seen.violated(format!("operation {operation} is in the ledger {n} times")),
        }
    }
    if checked.once * 2 < operations as usize {
        seen.violated("most operations had to be set apart".to_owned());
    }
    checked
}

/// Reads how much memory the process takes, in KiB, where the system says so.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

const CLIENTS: usize = 64;
