//! The kit on the stores of this crate, and on stores that are wrong on purpose.

mod faulty;
mod transactional;
mod wrong;

use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;

/// Runs a case in a thread of its own, and returns whether it panics.
fn panics<F: Future<Output = ()>>(
    case: &'static str,
    run: impl FnOnce() -> F + Send + 'static,
) -> bool {
    let run = move || {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(async {
            // A wrong store may also hang. Time is paused, so waiting for it costs none.
            let within = tokio::time::timeout(Duration::from_secs(100_000), run());
            assert!(within.await.is_ok(), "{case} hangs");
        });
    };
    thread::spawn(run).join().is_err()
}

mod memory_store {
    use tower_idempotency::MemoryStore;

    tower_idempotency::conformance_tests! {
        clock: paused,
        store: MemoryStore::new(),
        room: async |store: &MemoryStore| store.len(),
        bounded: MemoryStore::new().max_bytes(64 * 1024),
    }
}

mod memory_store_in_real_time {
    use tower_idempotency::MemoryStore;

    tower_idempotency::conformance_tests! {
        clock: real,
        store: MemoryStore::new(),
        room: async |store: &MemoryStore| store.len(),
    }
}

mod shared_memory_store {
    use std::sync::Arc;
    use tower_idempotency::MemoryStore;

    tower_idempotency::conformance_tests! {
        clock: paused,
        store: Arc::new(MemoryStore::new()),
        room: async |store: &Arc<MemoryStore>| store.len(),
        bounded: Arc::new(MemoryStore::new().max_bytes(64 * 1024)),
    }
}

mod erased_memory_store {
    use tower_idempotency::MemoryStore;
    use tower_idempotency::store::DynStore;

    tower_idempotency::conformance_tests! {
        clock: paused,
        store: DynStore::new(MemoryStore::new()),
        bounded: DynStore::new(MemoryStore::new().max_bytes(64 * 1024)),
    }
}
