//! `RedisStore` against real servers, which the tests start themselves.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

use support::cluster as cluster_support;

mod check;
mod clock;
mod cluster;
#[cfg(feature = "conformance")]
mod conformance;
mod connection;
mod entries;
mod login;
mod outage;
mod processes;
mod refusals;
mod runtimes;
mod sentinel;
mod server;
mod sites;
mod tls;
mod waiting;

/// What a process does that `cluster_support` has started.
#[test]
fn instance() {
    cluster_support::instance::main();
}
