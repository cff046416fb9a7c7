//! What the test suites share: one scripted store, one handler, one scripted body, the answers to
//! them, an HTTP/1.1 client by hand, and the servers of stores outside of the process.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]
#![allow(
    clippy::new_without_default,
    missing_debug_implementations,
    missing_docs,
    reason = "only tests use it"
)]

mod answer;
mod body;
mod handler;
#[cfg(feature = "log")]
mod log;
mod random;
mod raw;
mod request;
mod script;
#[cfg(feature = "server")]
mod server;
mod store;
mod wait;
mod waiters;

pub mod certificates;
pub mod clock;
#[cfg(feature = "cluster")]
pub mod cluster;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod daemon;
pub mod entry;
pub mod left_out;
pub mod process;

pub use self::answer::Answer;
pub use self::body::{Broken, Frames, Piece, Read, Watch, read};
pub use self::handler::{Failure, Handled, Handler, created, numbered, responding};
#[cfg(feature = "log")]
pub use self::log::Log;
pub use self::random::Random;
pub use self::raw::Raw;
pub use self::request::{CREDENTIAL, keyed, request, send, write};
pub use self::script::{Fault, Script};
#[cfg(feature = "server")]
pub use self::server::serve;
pub use self::store::{Call, Director, LEASE, Reply, STORE_TIMEOUT, Scripted, Step, scripted};
pub use self::wait::{Gate, PATIENCE, in_time, pend, soon, until};
pub use self::waiters::waiters;
