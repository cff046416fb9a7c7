//! `SqliteStore`.

mod check;
#[cfg(feature = "conformance")]
mod conformance;
mod disk;
mod durability;
mod faults;
pub(crate) mod file;
mod full;
mod ledger;
mod processes;
mod read_only;
mod table;
#[cfg(feature = "conformance")]
mod transactions;
