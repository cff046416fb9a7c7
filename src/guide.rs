//! Chapters that need more room than the [front page](crate).
//!
//! They are files of the repository's folder `docs`, too.

// The links that come first hold here, and those at the end of each file on a repository's page.

#[doc = "[tenants]: callers#several-tenants-or-hosts"]
#[doc = "[`DoNotKeep`]: crate::DoNotKeep"]
#[doc = "[`RequestBody`]: crate::RequestBody"]
#[doc = ""]
#[doc = include_str!("../docs/placement.md")]
pub mod placement {}

#[doc = include_str!("../docs/callers.md")]
pub mod callers {}

#[doc = "[`transactional`]: crate::IdempotencyLayer::transactional"]
#[doc = "[`Transactional`]: crate::Transactional"]
#[doc = "[`is_protected`]: crate::Transactional::is_protected"]
#[doc = "[`TransactionalStore`]: crate::store::TransactionalStore"]
#[doc = "[`Store`]: crate::Store"]
#[doc = "[`DynStore`]: crate::store::DynStore"]
#[cfg_attr(
    feature = "postgres",
    doc = "[`PostgresStore::schema`]: crate::PostgresStore::schema"
)]
#[doc = ""]
#[doc = include_str!("../docs/exactly-once.md")]
// Its example needs the feature to be compiled.
#[cfg(any(not(doctest), feature = "postgres"))]
pub mod exactly_once {}

#[doc = "[`transactional()`]: crate::IdempotencyLayer::transactional"]
#[doc = "[`on_store_failure`]: crate::IdempotencyLayer::on_store_failure"]
#[doc = "[`in_flight`]: crate::IdempotencyLayer::in_flight"]
#[doc = "[`require_key`]: crate::IdempotencyLayer::require_key"]
#[doc = "[`target`]: crate::IdempotencyLayer::target"]
#[doc = "[`refuse_with`]: crate::IdempotencyLayer::refuse_with"]
#[doc = "[`keep_if`]: crate::IdempotencyLayer::keep_if"]
#[doc = "[`keep_header`]: crate::IdempotencyLayer::keep_header"]
#[doc = "[`on_replay`]: crate::IdempotencyLayer::on_replay"]
#[doc = "[`DoNotKeep`]: crate::DoNotKeep"]
#[doc = "[`KeepFor`]: crate::KeepFor"]
#[doc = "[`Unprotected`]: crate::Unprotected"]
#[doc = "[exactly once]: exactly_once"]
#[doc = "[Placement]: placement"]
#[doc = ""]
#[doc = include_str!("../docs/choices.md")]
#[cfg(any(not(doctest), feature = "memory"))]
pub mod choices {}

#[doc = "[outages]: outages"]
#[doc = "[README]: https://docs.rs/crate/tower-idempotency/latest"]
#[doc = "[`axum.rs`]: https://docs.rs/crate/tower-idempotency/latest/source/examples/axum.rs"]
#[doc = "[Outages of Redis]: outages#redis"]
#[doc = "[`Detached`]: crate::Detached"]
#[doc = "[`Outcome`]: crate::Outcome"]
#[cfg_attr(feature = "memory", doc = "[`MemoryStore`]: crate::MemoryStore")]
#[cfg_attr(feature = "redis", doc = "[`RedisStore`]: crate::RedisStore")]
#[cfg_attr(feature = "postgres", doc = "[`PostgresStore`]: crate::PostgresStore")]
#[cfg_attr(feature = "sqlite", doc = "[`SqliteStore`]: crate::SqliteStore")]
#[doc = ""]
#[doc = include_str!("../docs/operations.md")]
pub mod operations {}

// One file for each store, below the page that they belong to.
#[doc = "[`Outcome`]: crate::Outcome"]
#[doc = "[Redis]: #redis"]
#[doc = "[PostgreSQL]: #postgresql"]
#[doc = "[SQLite]: #sqlite"]
#[doc = ""]
#[doc = include_str!("../docs/outages.md")]
#[doc = ""]
#[doc = include_str!("../docs/outages/redis.md")]
#[doc = ""]
#[doc = include_str!("../docs/outages/postgres.md")]
#[doc = ""]
#[doc = include_str!("../docs/outages/sqlite.md")]
pub mod outages {}

#[doc = include_str!("../docs/security.md")]
pub mod security {}

#[cfg(test)]
mod tests {
    /// The README's code is compiled there only, since it needs a feature.
    #[test]
    fn the_handler_in_the_readme_is_that_of_the_chapter() {
        let readme = include_str!("../README.md");
        let (_, code) = readme.split_once("```rust,ignore\n").expect("a block");
        let (code, _) = code.split_once("```").expect("its end");
        assert!(code.contains("keep.in_transaction(&mut tx, response)"));
        assert!(include_str!("../docs/exactly-once.md").contains(code));
    }
}
