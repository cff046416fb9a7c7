//! What the tests of every store outside of the process share: several instances of an API as
//! processes, a load that goes on while the server fails, and a proxy that loses replies.
//!
//! A test binary that uses it says which of its tests an instance is:
//!
//! ```ignore
//! use support::cluster as cluster_support;
//!
//! #[test]
//! fn instance() {
//!     cluster_support::instance::main();
//! }
//! ```

pub mod api;
pub mod clock_steps;
pub mod counted;
pub mod crash;
pub mod fault;
pub mod instance;
pub mod lost_reply;
pub mod outage;
pub mod proxy;
pub mod race;
pub mod store;
pub mod waiting;

#[cfg(feature = "conformance")]
pub use crate::conformance;
pub use crate::{clock, daemon, left_out, process};
