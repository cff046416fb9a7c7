//! The store that a URL names, for a test that is about any of them.

use tower_idempotency::store::DynStore;

/// Opens the store that a URL names.
pub async fn open(url: &str) -> DynStore {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        #[cfg(feature = "redis")]
        Some("redis" | "unix") => {
            DynStore::new(tower_idempotency::RedisStore::connect(url).await.unwrap())
        }
        #[cfg(feature = "postgres")]
        Some("postgres" | "postgresql") => {
            let store = tower_idempotency::PostgresStore::connect(url)
                .await
                .unwrap();
            store.migrate().await.unwrap();
            DynStore::new(store)
        }
        #[cfg(feature = "sqlite")]
        Some("sqlite") => {
            let path = url.trim_start_matches("sqlite:");
            let store = tower_idempotency::SqliteStore::open(path).await.unwrap();
            store.migrate().await.unwrap();
            DynStore::new(store)
        }
        _ => panic!("no store of this build has a URL like {url}"),
    }
}
