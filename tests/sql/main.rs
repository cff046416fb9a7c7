//! `PostgresStore` against a real server, and `SqliteStore` on files.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

#[cfg(any(feature = "postgres", feature = "sqlite"))]
use support::{cluster as cluster_support, entry};

#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod disk;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod transactional;

/// What a process does that `cluster_support` has started.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[test]
fn instance() {
    cluster_support::instance::main();
}

#[cfg(not(all(feature = "postgres", feature = "sqlite")))]
#[test]
fn what_needs_a_feature_is_left_out() {
    use std::io::Write;

    for (store, feature, is_on) in [
        ("PostgresStore", "postgres", cfg!(feature = "postgres")),
        ("SqliteStore", "sqlite", cfg!(feature = "sqlite")),
    ] {
        if !is_on {
            let line = format!(
                "\nleft out: the tests of {store}, without the feature {feature}: run tests/run.sh\n"
            );
            // Not `eprintln!`, whose output is shown for a test that fails only.
            std::io::stderr().write_all(line.as_bytes()).unwrap();
        }
    }
}
