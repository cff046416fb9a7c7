//! Stores in memory under threads for real: what they saw must have happened in some order.

mod checker;
mod history;
mod model;
mod rejected;
mod run;

use std::time::{Duration, Instant};

use tower_idempotency::MemoryStore;

use self::checker::check;
use self::run::{Run, histories};

const RUN: Run = Run {
    threads: 2,
    keys: 4,
    calls_per_thread: 12_000,
    pause: Duration::ZERO,
    limit: Duration::from_secs(5),
    seed: 1,
};

#[track_caller]
fn assert_linearizable(store: &MemoryStore, run: Run) {
    for (key, history) in histories(store, run).iter().enumerate() {
        if let Err(error) = check(history) {
            panic!("{run:?}, key {key}: {error:#?}");
        }
    }
}

#[test]
fn memory_store_is_linearizable_under_2_to_8_threads() {
    for threads in 2..=8 {
        for keys in [1, 4] {
            let run = Run {
                threads,
                keys,
                calls_per_thread: 12_000 / threads,
                seed: threads as u64 * 100,
                ..RUN
            };
            assert_linearizable(&MemoryStore::new(), run);
        }
    }
}

#[test]
fn memory_store_is_linearizable_while_it_is_full() {
    for threads in [2, 4, 8] {
        // Room for about 4 of the longest records and as many claims.
        let store = MemoryStore::new().max_bytes(4096);
        let run = Run {
            threads,
            keys: 24,
            calls_per_thread: 36_000 / threads,
            seed: threads as u64 * 1000,
            ..RUN
        };
        assert_linearizable(&store, run);
    }
}

/// The sweeper looks once a second, so that this takes two and a half.
#[test]
fn memory_store_is_linearizable_while_it_is_swept_and_gives_all_room_back() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let _context = runtime.enter();
    let store = MemoryStore::new();
    let run = Run {
        threads: 4,
        keys: 16,
        calls_per_thread: usize::MAX,
        pause: Duration::from_micros(60),
        limit: Duration::from_millis(2500),
        seed: 7,
    };
    assert_linearizable(&store, run);
    let start = Instant::now();
    while !(store.is_empty() && store.bytes() == 0) {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "not empty: {store:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
