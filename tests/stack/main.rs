//! The layer among others: each claim of `docs/placement.md` about where it belongs, a test each.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

mod callers;
mod client;
mod leaving;
mod other_side;
mod parts;
mod picture;
mod routes;
mod stack;
mod whole;
