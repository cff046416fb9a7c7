//! Checks that a store keeps what [`TransactionalStore`] promises, beside what [`Store`] does.
//!
//! The store's author implements [`Database`], and
//! [`transactional_conformance_tests!`](crate::transactional_conformance_tests) makes a test of each
//! case.
//!
//! [`Store`]: crate::store::Store
//! [`TransactionalStore`]: crate::store::TransactionalStore

mod at_once;
mod bench;
mod database;
mod endings;
mod fences;
mod macros;
mod terms;
mod waits;

pub use self::at_once::*;
pub use self::database::Database;
pub use self::endings::*;
pub use self::fences::*;
pub use self::terms::*;
pub use self::waits::*;
use super::Case;

/// Lists the cases of a [`TransactionalStore`](crate::store::TransactionalStore), for a harness other
/// than `#[tokio::test]`. Those of every store are listed by [`cases`](super::cases).
pub fn transactional_cases<D: Database>() -> Vec<Case<D>> {
    crate::transactional_conformance_tests! { @list table }
}
