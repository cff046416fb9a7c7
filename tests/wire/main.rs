//! The layer as clients see it: real servers on loopback TCP, over HTTP/1.1 and HTTP/2.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

mod bodies;
mod declared;
mod disconnects;
mod encoded;
mod headers;
mod hyper_server;
mod races;
mod refusals;
mod shutdown;
mod streams;
mod support;
mod uploads;
