//! What the tests share, which is what all suites share.

pub(crate) use ::support::*;

pub(crate) type Answer = ::support::Answer<String>;
