//! Checks that a store keeps what [`Store`] promises, for its author to run.
//!
//! Each guarantee is an async function here that panics if the store breaks it, and
//! [`conformance_tests!`](crate::conformance_tests) turns each into a named test. The list only
//! grows: a store that passes today may fail a later version. For a
//! [`TransactionalStore`](super::TransactionalStore),
//! [`transactional_conformance_tests!`](crate::transactional_conformance_tests) has more of them.
//!
//! **Not API-stable.** Names and signatures in this module may change in any release; the macro's
//! arguments will not.
//!
//! # Examples
//!
//! The whole test file of a store in memory whose time is tokio's, so that it can be paused:
//!
//! ```no_run
//! # fn main() {}
//! # #[cfg(feature = "memory")]
//! mod memory_store {
//!     use tower_idempotency::MemoryStore;
//!
//!     tower_idempotency::conformance_tests! {
//!         clock: paused,
//!         store: MemoryStore::new(),
//!         room: async |store: &MemoryStore| store.len(),
//!         bounded: MemoryStore::new().max_bytes(64 * 1024),
//!     }
//! }
//! ```
//!
//! # Servers
//!
//! With `clock: real` leases and ttls are short and real. Keys are random, so a server may be
//! shared and need not be wiped; what is left there ends within ten minutes. No check depends on
//! the speed of the machine or the server. A lease is "over" for a call that begins after it must
//! have ended, and "lasts" for a call that is answered before it may end. In between, either answer
//! is right.
//!
//! # What is not checked
//!
//! How a store behaves while it is down, slow or damaged, that its time is its own, and that its
//! records outlive the process: these can't be brought about for every store.

mod bench;
mod cancellation;
mod claims;
mod clock;
mod endings;
mod fences;
mod keys;
mod late;
mod macros;
mod races;
mod records;
mod room;
mod terms;
mod transactional;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

pub use self::cancellation::*;
pub use self::claims::*;
pub use self::clock::Clock;
pub use self::endings::*;
pub use self::fences::*;
pub use self::keys::*;
pub use self::late::*;
pub use self::races::*;
pub use self::records::*;
pub use self::room::*;
pub use self::terms::*;
pub use self::transactional::*;
use super::Store;

/// Lists the cases that every store can run, for a harness other than `#[tokio::test]`.
pub fn cases<S: Store>() -> Vec<Case<S>> {
    crate::conformance_tests! { @list table }
}

/// A case of the kit: its name, and the function that runs it.
pub struct Case<S> {
    name: &'static str,
    run: fn(S, Clock) -> Running,
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<S> Case<S> {
    /// Returns the name of the case, which is also that of its function.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the case, on a store or, for [`transactional_cases`], its database. The future panics if the
    /// store breaks the guarantee.
    pub fn run(&self, store: S, clock: Clock) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        (self.run)(store, clock)
    }
}

impl<S> fmt::Debug for Case<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}
