//! A [`TransactionalStore`](tower_idempotency::store::TransactionalStore) of one's own, over
//! `tokio-postgres`: `store.rs` is all that it takes. The rest shows that it is right.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

#[cfg(feature = "conformance")]
mod conformance;
mod database;
mod handler;
mod store;
