//! How claims and records are written in a store outside of this process.

pub(crate) mod codec;
pub(crate) mod compression;
