//! Stores: the conformance kit, what it catches, and threads for real.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

#[cfg(feature = "conformance")]
mod conformance;
mod threads;
