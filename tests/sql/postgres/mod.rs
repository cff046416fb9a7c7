//! `PostgresStore`.

mod clock;
#[cfg(feature = "conformance")]
mod conformance;
mod connection;
pub(crate) mod database;
mod errors;
mod failover;
mod full;
mod hang;
mod hole;
mod outage;
mod pgbouncer;
mod pooler;
mod primaries;
mod processes;
mod refusals;
pub(crate) mod server;
mod sessions;
mod sharing;
mod start;
mod table;
mod tls;
#[cfg(feature = "conformance")]
mod transactions;
