//! The kit on the stores of this crate, and on stores that are wrong on purpose.

mod faulty;
mod wrong;

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
