//! Stores: the conformance kit, what it catches, and threads for real.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

#[cfg(all(feature = "conformance", feature = "memory"))]
mod conformance;
#[cfg(feature = "memory")]
mod threads;
