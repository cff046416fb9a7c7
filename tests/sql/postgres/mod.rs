//! `PostgresStore`.

#[cfg(feature = "conformance")]
mod conformance;
mod connection;
pub(crate) mod database;
mod failover;
mod hang;
mod hole;
mod outage;
mod pgbouncer;
mod pooler;
mod processes;
mod refusals;
pub(crate) mod server;
mod sessions;
mod start;
mod table;
