//! The store that a URL names, for a test that is about any of them.

use tower_idempotency::store::DynStore;

/// Opens the store that a URL names.
pub(crate) async fn open(url: &str) -> DynStore {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        #[cfg(feature = "redis")]
        Some("redis" | "unix") => {
            DynStore::new(tower_idempotency::RedisStore::connect(url).await.unwrap())
        }
        _ => panic!("no store of this build has a URL like {url}"),
    }
}
