//! Random histories against the real layer: clients that leave, a store that fails, time that jumps.
//!
//! `HISTORIES=100000 cargo test -p histories` plays more of them, and
//! `HISTORY_SEED=<seed> cargo test -p histories` plays the one that a failure names again.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

mod action;
mod bodies;
mod claim;
mod client;
mod handler;
mod history;
mod regressions;
mod script;
mod store;
mod world;

use std::hash::{BuildHasher, RandomState};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use support::Broken;

use self::world::Tally;

#[test]
fn every_history_keeps_to_the_rules() {
    silence_scripted_panics();
    if let Some(seed) = number("HISTORY_SEED") {
        play(seed, &Mutex::default());
        return;
    }
    let count = number("HISTORIES").unwrap_or(HISTORIES);
    // Other histories in each run; the seed of one that fails is printed.
    let first = RandomState::new().hash_one(count);
    let next = AtomicU64::new(0);
    let tally = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    play(first.wrapping_add(n), &tally);
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    println!("{count} histories: {tally:#?}");
    // Rules that no history puts to the test are kept by anything.
    for outcome in OUTCOMES {
        assert!(count < 1_000 || tally.contains_key(outcome), "{outcome}");
    }
}

/// Plays the history that this seed stands for; if it breaks a rule, a shorter one is looked for.
fn play(seed: u64, tally: &Mutex<Tally>) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, random);
    let history = action::history().new_tree(&mut runner).unwrap();
    let result = runner.run_one(history, |actions| {
        let played = catch_unwind(AssertUnwindSafe(|| history::play(&actions)));
        let played = played.unwrap_or_else(|_| Err("the test or the layer panicked".to_owned()));
        for (what, count) in played.map_err(TestCaseError::fail)? {
            *tally.lock().unwrap().entry(what).or_default() += count;
        }
        Ok(())
    });
    if let Err(TestError::Fail(rule, actions)) = result {
        let mut lines = String::new();
        for action in &actions {
            lines += &format!("\n  {action:?}");
        }
        let count = actions.len();
        panic!(
            "{rule}\nafter {count} actions:{lines}\n\
             Again: HISTORY_SEED={seed} cargo test -p histories"
        );
    }
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().expect("a number"))
}

/// A panic that a script asks for is no news.
fn silence_scripted_panics() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Broken>() {
            report(info);
        }
    }));
}

/// How many histories an ordinary run plays.
const HISTORIES: u64 = 2_500;

/// What must have come about in them.
const OUTCOMES: [&str; 14] = [
    "kept",
    "kept_without_body",
    "recording",
    "not_kept_rule",
    "not_kept_do_not_keep",
    "not_kept_broken_upload",
    "not_kept_broken_body",
    "store_unavailable",
    "store_timeout",
    "store_full",
    "store_corrupt",
    "replayed",
    "in_progress",
    "key_reused",
];
