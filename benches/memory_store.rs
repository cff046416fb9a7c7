//! What `MemoryStore` costs with many keys: growth, resident bytes, expiry, the limit, two workers.
//!
//! ```text
//! cargo bench -p benches --bench memory_store              # 1 million keys
//! cargo bench -p benches --bench memory_store -- 10000000  # as many as are asked for
//! ```
//!
//! Each part runs in a process of its own, so that none sees another's memory.
#![allow(missing_docs, reason = "a program")]

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, StatusCode};
use tower_idempotency::store::{Begin, Claim, Fingerprint, Owner, Record};
use tower_idempotency::{CallerId, IdempotencyKey, MemoryStore, RecordKey, Store, StoreError};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Behind the number, cargo adds an argument of its own.
    let mut numbers = arguments.iter().filter_map(|text| text.parse().ok());
    let keys = numbers.next().unwrap_or(1_000_000);
    let part = PARTS
        .iter()
        .find(|(name, _)| arguments.first().is_some_and(|first| first == name));
    if let Some((_, run)) = part {
        return run(keys);
    }
    for (name, _) in PARTS {
        let this = std::env::current_exe().expect("the path of this program");
        let status = Command::new(this).arg(name).arg(keys.to_string()).status();
        assert!(status.expect("a child process").success(), "{name} failed");
    }
}

/// A part's name, and what runs it with a number of keys.
type Part = (&'static str, fn(usize));

const PARTS: &[Part] = &[
    ("growth", growth),
    ("expiry", expiry),
    ("limit", limit),
    ("workers", workers),
];

/// The worst and the median write while the store grows, and what a key takes in the end.
fn growth(keys: usize) {
    runtime(1).block_on(async {
        let store = MemoryStore::new().max_bytes(usize::MAX);
        let record = record();
        let mut times = Vec::with_capacity(keys);
        let all: Vec<RecordKey> = (0..keys).map(key).collect();
        // The list of times is resident before it is filled.
        times.resize(keys, 0u32);
        let base = resident_bytes();
        for (time, key) in times.iter_mut().zip(&all) {
            let start = Instant::now();
            write(&store, key, &record, DAY).expect("room");
            *time = u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX);
        }
        let resident = resident_bytes().saturating_sub(base);
        let worst = times.iter().max().copied().unwrap_or_default();
        let over = times.iter().filter(|time| **time > 1_000_000).count();
        let tenth = keys / 10;
        println!(
            "growth to {keys} keys: worst write {:.2} ms, {over} over 1 ms; median {} ns in the first \
             tenth, {} ns in the last; {} resident bytes a key, {} as the store counts",
            f64::from(worst) / 1e6,
            median(&mut times[..tenth]),
            median(&mut times[keys - tenth..]),
            resident / keys,
            store.bytes() / keys,
        );
    });
}

/// A reader's times while all records expire at once, and the memory that is left.
fn expiry(keys: usize) {
    let runtime = runtime(2);
    let store = MemoryStore::new().max_bytes(usize::MAX);
    let stop = Arc::new(AtomicBool::new(false));
    runtime.block_on(async {
        let live = key(usize::MAX);
        write(&store, &live, &record(), DAY).expect("room");
        let base = resident_bytes();

        let quiet = read_times(&store, &live, Duration::from_secs(1), None);
        let (all, reader_store) = (keys, store.clone());
        // Long enough to write them all before the first one ends.
        let ttl = Duration::from_secs(5 + keys as u64 / 100_000);
        let start = Instant::now();
        let record = record();
        for n in 0..all {
            write(&store, &key(n), &record, ttl.saturating_sub(start.elapsed())).expect("room");
        }
        let full = resident_bytes();
        let left = ttl.saturating_sub(start.elapsed());
        tokio::time::sleep(left.saturating_sub(Duration::from_millis(500))).await;
        let flag = Arc::clone(&stop);
        let reader = std::thread::spawn(move || {
            read_times(&reader_store, &live, Duration::from_secs(60), Some(&flag))
        });
        let start = Instant::now();
        while store.len() > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let took = start.elapsed().saturating_sub(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
        let busy = reader.join().expect("a reader that ends");
        let after = resident_bytes();
        println!(
            "expiry of {keys} keys at once: gone after {:.1} s; a reader's p99.9 {} ns, and {} ns without \
             expiry; resident {} MiB before, {} MiB full, {} MiB after",
            took.as_secs_f64(),
            percentile(busy),
            percentile(quiet),
            base >> 20,
            full >> 20,
            after >> 20,
        );
    });
}

/// How far a full store goes beyond its limit, and what a write costs there.
fn limit(keys: usize) {
    runtime(1).block_on(async {
        let limit = 64 * 1024 * 1024;
        let store = MemoryStore::new().max_bytes(limit);
        let record = record();
        let (mut most, mut refused) = (0, Vec::new());
        for n in 0..keys.min(1_000_000) {
            let key = key(n);
            let start = Instant::now();
            let written = write(&store, &key, &record, DAY);
            if written.is_err() {
                refused.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
            }
            most = most.max(store.bytes());
        }
        println!(
            "limit of 64 MiB: at most {:.2} % of it used; {} writes refused, {} ns each",
            100.0 * most as f64 / limit as f64,
            refused.len(),
            median(&mut refused),
        );
    });
}

/// Replays a second of two workers on one store, beside those of one worker, and beside those of two
/// with a store each, which is what the machine can do at the time.
fn workers(_: usize) {
    let keys: Vec<RecordKey> = (0..10_000).map(key).collect();
    let stores: [MemoryStore; 2] = std::array::from_fn(|_| {
        let store = MemoryStore::new();
        runtime(1).block_on(async {
            for key in &keys {
                write(&store, key, &record(), DAY).expect("room");
            }
        });
        store
    });
    let replays = |stores: &[&MemoryStore]| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for (worker, store) in stores.iter().enumerate() {
                let keys = &keys;
                scope.spawn(move || {
                    for n in 0..1_000_000 {
                        let claim = Claim::new(Owner::new(), fingerprint());
                        let key = &keys[(n * 7 + worker * 5003) % keys.len()];
                        let _ = black_box(now(store.begin(key, &claim, LEASE)));
                    }
                });
            }
        });
        (stores.len() * 1_000_000) as f64 / start.elapsed().as_secs_f64()
    };
    let (mut shared, mut apart) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        let one = replays(&[&stores[0]]);
        shared.push(replays(&[&stores[0], &stores[0]]) / one);
        apart.push(replays(&[&stores[0], &stores[1]]) / one);
    }
    for ratios in [&mut shared, &mut apart] {
        ratios.sort_by(f64::total_cmp);
    }
    println!(
        "two workers: {:.2} times the replays of one; with a store each {:.2} (medians of 7)",
        shared[3], apart[3]
    );
}

fn fingerprint() -> Fingerprint {
    Fingerprint::from_bytes([7; 32])
}

fn record() -> Record {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    Record::new(
        fingerprint(),
        StatusCode::CREATED,
        &headers,
        Some(&[b'x'; 256]),
    )
}

fn key(n: usize) -> RecordKey {
    let key = IdempotencyKey::new(format!("key-{n}")).expect("a valid key");
    RecordKey::new(&CallerId::new("alice"), &key)
}

fn write(
    store: &MemoryStore,
    key: &RecordKey,
    record: &Record,
    ttl: Duration,
) -> Result<(), StoreError> {
    let owner = Owner::new();
    let begun = now(store.begin(key, &Claim::new(owner, fingerprint()), LEASE))?;
    assert!(matches!(begun, Begin::Started));
    // Made from its bytes, as each response's record has a buffer of its own.
    let own = Record::from_bytes(bytes::Bytes::copy_from_slice(record.as_bytes()));
    let _ = now(store.complete(key, owner, &own.expect("a record"), ttl))?;
    Ok(())
}

fn read_times(
    store: &MemoryStore,
    key: &RecordKey,
    limit: Duration,
    stop: Option<&AtomicBool>,
) -> Vec<u32> {
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < limit && !stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
        let claim = Claim::new(Owner::new(), fingerprint());
        let one = Instant::now();
        let found = now(store.begin(key, &claim, LEASE));
        times.push(u32::try_from(one.elapsed().as_nanos()).unwrap_or(u32::MAX));
        assert!(matches!(found, Ok(Begin::Completed(_))));
    }
    times
}

fn percentile(mut times: Vec<u32>) -> u32 {
    times.sort_unstable();
    times
        .get(times.len() * 999 / 1000)
        .copied()
        .unwrap_or_default()
}

fn median(times: &mut [u32]) -> u32 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Runs a future of the memory store, which never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("the memory store never waits"),
    }
}

fn runtime(workers: usize) -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(workers).enable_time();
    builder.build().expect("a runtime")
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux's process statistics");
    let pages = statm.split_whitespace().nth(1).expect("a second field");
    pages.parse::<usize>().expect("a number") * 4096
}

const LEASE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
