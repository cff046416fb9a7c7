//! What the tests of every store outside of the process share: several instances of an API as
//! processes, a load that goes on while the server fails, and a proxy that loses replies.
//!
//! A test binary that uses it says which of its tests an instance is:
//!
//! ```ignore
//! #[path = "../cluster_support/mod.rs"]
//! mod cluster_support;
//!
//! #[test]
//! fn instance() {
//!     cluster_support::instance::main();
//! }
//! ```
#![allow(dead_code, reason = "not every store's tests use everything")]

pub(crate) mod api;
#[cfg(feature = "conformance")]
pub(crate) mod conformance;
pub(crate) mod crash;
pub(crate) mod instance;
pub(crate) mod left_out;
pub(crate) mod lost_reply;
pub(crate) mod outage;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod race;
pub(crate) mod store;
