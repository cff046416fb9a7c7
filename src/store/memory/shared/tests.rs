use std::thread;

use super::*;
use crate::store::Fingerprint;

fn claim() -> Claim {
    Claim::new(Owner::new(), Fingerprint::from_bytes([7; 32]))
}

#[test]
fn a_lease_that_ends_while_a_step_waits_for_the_lock_is_over() {
    type Step = fn(&Arc<Shared>, &RecordKey, &Claim) -> bool;
    let steps: [(&str, Step); 4] = [
        ("begin", |shared, key, _| {
            matches!(shared.begin(key, &claim(), LEASE), Ok(Begin::Started))
        }),
        ("complete by another", |shared, key, held| {
            let record = Record::new(held.fingerprint(), http::StatusCode::OK, [], None);
            let completed = shared.complete(key, claim().owner(), &record, LEASE);
            matches!(completed, Ok(Ownership::Held))
        }),
        ("renew", |shared, key, held| {
            shared.renew(key, held.owner(), LEASE) == Ownership::Lost
        }),
        ("release", |shared, key, held| {
            shared.release(key, held.owner()) == Ownership::Lost
        }),
    ];
    for (name, step) in steps {
        let (key, claim) = (RecordKey::from_bytes([1; 32]), claim());
        // Claimed outside the runtime, so that no sweeper waits for the lock as well.
        let shared = Arc::new(Shared::new(1 << 20));
        assert!(matches!(
            shared.begin(&key, &claim, LEASE),
            Ok(Begin::Started)
        ));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let locked = shared.slots.get_mut(&key);
        let waiting = {
            let (shared, runtime) = (Arc::clone(&shared), runtime.handle().clone());
            thread::spawn(move || {
                let _context = runtime.enter();
                step(&shared, &key, &claim)
            })
        };
        // By then the step most likely waits; one that begins later is right in any case.
        thread::sleep(Duration::from_millis(20));
        runtime.block_on(tokio::time::advance(LEASE * 2));
        drop(locked);
        assert!(waiting.join().expect("no panic"), "{name} went by the past");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_keys_that_are_given_up_is_bounded_and_leaves_nothing() {
    let shared = Arc::new(Shared::new(64 * 1024));
    let mut refused = 0;
    for n in 0..10_000u16 {
        let (mut bytes, claim) = ([0; 32], claim());
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        let key = RecordKey::from_bytes(bytes);
        match shared.begin(&key, &claim, LEASE) {
            Ok(_) => assert_eq!(shared.release(&key, claim.owner()), Ownership::Held),
            Err(_) => refused += 1,
        }
        assert!(shared.bytes() <= 66 * 1024);
    }
    assert!(refused > 7_000, "{refused} refused");
    tokio::time::sleep(LEASE + TICK * 2).await;
    assert_eq!(shared.bytes(), 0);
}

/// A store outside of all runtimes, whose time a test can move.
struct Outside(Arc<Shared>);

impl Outside {
    fn new() -> Self {
        Self(Arc::new(Shared::new(1 << 20)))
    }

    /// Lets time pass: no task may be there that has the store in its hands.
    fn pass(&mut self, time: Duration) {
        Arc::get_mut(&mut self.0).expect("no task").start -= time;
    }

    /// Claims a key for a lease, and completes it for a ttl.
    fn write(&self, n: u16, lease: Duration, ttl: Duration) {
        let (mut bytes, claim) = ([0; 32], claim());
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        let key = RecordKey::from_bytes(bytes);
        let begun = self.0.begin(&key, &claim, lease);
        assert!(matches!(begun, Ok(Begin::Started)));
        let record = Record::new(claim.fingerprint(), http::StatusCode::OK, [], None);
        let completed = self.0.complete(&key, claim.owner(), &record, ttl);
        assert!(matches!(completed, Ok(Ownership::Held)));
    }
}

#[test]
fn without_a_runtime_the_claims_give_room_back_as_fast_as_they_take_it() {
    let second = Duration::from_secs(1);
    let mut store = Outside::new();
    for n in 0..1000 {
        store.write(n, second * 2, second * 10);
        store.pass(second);
        // Ten that last, and those that are late by no more than they may be.
        assert!(store.0.len() <= 14, "{n}: {}", store.0.len());
    }
    // A crowd is given back by a few.
    for n in 1000..1640 {
        store.write(n, second * 2, second * 10);
    }
    store.pass(second * 20);
    for n in 2000..2024 {
        store.write(n, second * 2, second * 10);
    }
    assert_eq!(store.0.len(), 24);
    store.pass(second * 20);
    store.write(3000, second, second);
    assert_eq!(store.0.len(), 1);
}

#[test]
fn on_a_runtime_without_timers_the_claims_give_room_back_and_no_task_is_tried_again() {
    let second = Duration::from_secs(1);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    let mut store = Outside::new();
    for n in 0..100 {
        runtime.block_on(async {
            store.write(n, second * 2, second * 10);
            let is_task = Arc::weak_count(&store.0) > 0;
            assert_eq!(is_task, n == 0, "a task at claim {n}");
            while Arc::weak_count(&store.0) > 0 {
                tokio::task::yield_now().await;
            }
        });
        store.pass(second);
        assert!(store.0.len() <= 14, "{n}: {}", store.0.len());
    }
}

#[test]
fn a_task_that_neglects_its_keys_is_replaced_once_and_does_not_come_back() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true);
        builder.build().expect("a runtime")
    };
    let (idle, driven) = (runtime(), runtime());
    let store = Outside::new();
    let tasks = || Arc::weak_count(&store.0);
    idle.block_on(async {
        (0..1000).for_each(|n| store.write(n, LEASE, LEASE));
        tokio::task::yield_now().await;
        assert_eq!(tasks(), 1);
    });
    driven.block_on(async {
        store.write(1000, LEASE, LEASE);
        assert_eq!(tasks(), 1, "nothing is late yet");
        tokio::time::advance(LEASE + TICK * 4).await;
        for n in 1..=10 {
            store.write(1000 + n, LEASE, LEASE);
            assert_eq!(tasks(), 2, "late, and so replaced once");
            let left = 1001 - usize::from(n) * (CHUNK - 1);
            assert!(store.0.len() <= left, "at claim {n}: {}", store.0.len());
        }
        // Without a claim.
        tokio::time::sleep(LEASE + TICK * 2).await;
        assert_eq!((store.0.len(), store.0.bytes()), (0, 0));
        assert_eq!(tasks(), 1);
        store.write(2000, LEASE, LEASE);
        assert_eq!(tasks(), 2);
    });
    idle.block_on(async { tokio::time::sleep(LEASE + TICK * 2).await });
    assert_eq!(tasks(), 1, "the first has seen that another is there");
    drop(driven);
    assert_eq!(tasks(), 0);
    idle.block_on(async {
        store.write(2001, LEASE, LEASE);
        // The clock of each runtime is its own, and the other one was ahead.
        tokio::time::sleep(LEASE * 3).await;
    });
    assert_eq!((store.0.len(), store.0.bytes()), (0, 0));
}

const LEASE: Duration = Duration::from_secs(60);
