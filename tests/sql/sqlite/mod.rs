//! `SqliteStore`.

mod check;
mod clock;
#[cfg(feature = "conformance")]
mod conformance;
mod disk;
mod durability;
mod faults;
pub(crate) mod file;
mod full;
mod ledger;
mod load;
mod processes;
mod read_only;
mod table;
#[cfg(feature = "conformance")]
mod transactions;
