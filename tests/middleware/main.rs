//! The behaviour of the whole stack, a module a topic.
#![cfg(feature = "memory")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

mod smoke;
