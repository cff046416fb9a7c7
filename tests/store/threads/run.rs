//! Threads that take random steps on a store, all at the same time.

use std::pin::pin;
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use tower_idempotency::{RecordKey, Store};

use super::checker::History;
use super::history::{Call, Step, call};

/// The settings of a run. Its steps are the same each time; the machine decides their order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) threads: usize,
    pub(super) keys: usize,
    pub(super) calls_per_thread: usize,
    /// How long a thread waits between two calls at most.
    pub(super) pause: Duration,
    /// A run ends after this time at the latest.
    pub(super) limit: Duration,
    pub(super) seed: u64,
}

/// Runs threads against a store, and returns the history of each key.
pub(super) fn histories<S: Store>(store: &S, run: Run) -> Vec<History> {
    let start = Instant::now();
    let barrier = Barrier::new(run.threads);
    // Keys that differ in their first bytes, so that they spread over the shards of a table.
    let keys: Vec<_> = (0..run.keys)
        .map(|key| RecordKey::from_bytes([key as u8 + 1; 32]))
        .collect();
    let runtime = tokio::runtime::Handle::try_current().ok();
    let by_thread: Vec<Vec<Vec<Call>>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..run.threads)
            .map(|thread| {
                let (barrier, keys, runtime) = (&barrier, &keys, &runtime);
                scope.spawn(move || {
                    let _context = runtime.as_ref().map(tokio::runtime::Handle::enter);
                    let mut random = Random::new(run.seed + thread as u64);
                    let mut calls = vec![Vec::new(); keys.len()];
                    barrier.wait();
                    for n in 0..run.calls_per_thread {
                        let key = random.below(keys.len() as u64) as usize;
                        let number = (thread << 24 | n) as u32;
                        let step = random.step(number);
                        calls[key].push(at_once(call(store, &keys[key], step, start)));
                        if !run.pause.is_zero() {
                            thread::sleep(run.pause * random.below(4) as u32 / 3);
                        }
                        if start.elapsed() > run.limit {
                            break;
                        }
                    }
                    calls
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    (0..run.keys)
        .map(|key| by_thread.iter().map(|calls| calls[key].clone()).collect())
        .collect()
}

/// Runs a future that is never pending: a store in memory answers at once.
pub(super) fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a store in memory answers at once"),
    }
}

/// Xorshift: the same numbers in each run, and no dependency.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn step(&mut self, number: u32) -> Step {
        // So few owners that they are often right, often wrong, and often late.
        let owner = self.below(4) as u8;
        match self.below(8) {
            0..3 => Step::Begin {
                owner,
                request: number,
                lease: self.term(),
            },
            3..5 => Step::Complete {
                owner,
                record: number,
                ttl: self.term(),
            },
            5..7 => Step::Renew {
                owner,
                lease: self.term(),
            },
            _ => Step::Release { owner },
        }
    }

    /// From less than a call takes to more than the time that a thread waits for its turn.
    fn term(&mut self) -> u64 {
        [0, 300, 3_000, 30_000, 300_000, 3_000_000][self.below(6) as usize]
    }
}
