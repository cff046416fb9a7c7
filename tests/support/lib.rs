//! What the test suites share.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]
#![allow(
    missing_debug_implementations,
    missing_docs,
    reason = "only tests use it"
)]

#[cfg(feature = "cluster")]
pub mod cluster;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod left_out;
pub mod process;
