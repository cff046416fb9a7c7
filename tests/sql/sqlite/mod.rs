//! `SqliteStore`.

#[cfg(feature = "conformance")]
mod conformance;
mod durability;
mod file;
mod processes;
mod table;
