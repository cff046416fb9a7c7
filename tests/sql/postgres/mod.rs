//! `PostgresStore`.

#[cfg(feature = "conformance")]
mod conformance;
mod connection;
mod database;
mod failover;
mod hang;
mod hole;
mod outage;
mod pgbouncer;
mod pooler;
mod processes;
mod refusals;
mod server;
mod sessions;
mod start;
mod table;
#[cfg(feature = "conformance")]
mod transactions;
