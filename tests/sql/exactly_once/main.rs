//! Exactly once over real processes and real databases, without an exception: what is in the ledger,
//! and what clients were answered.
//!
//! The long test, `LEDGER_SECONDS=300 cargo test -p sql-stores --test exactly_once -- --nocapture`, takes
//! 30 seconds unless that says otherwise, prints its figures, and repeats what it did as far as it can with
//! `LEDGER_SEED`.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

#[cfg(any(feature = "postgres", feature = "sqlite"))]
use support::cluster as cluster_support;

#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod book;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod client;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod engine;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod fence;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod figures;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod handler;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod instance;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod ledger;
#[cfg(feature = "postgres")]
mod proxy;
#[cfg(feature = "postgres")]
#[path = "../postgres/server.rs"]
#[allow(dead_code, reason = "a standby is for others")]
mod server;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod trouble;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod watched;

/// What a process does that `instance` has started.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[test]
fn instance_of_the_bank() {
    instance::main();
}
