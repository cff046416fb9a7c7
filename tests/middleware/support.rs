//! What the tests share.

mod answer;
mod body;
mod handler;
mod request;
mod store;
mod wait;

pub(crate) use self::answer::Answer;
pub(crate) use self::body::{Broken, Frames, Piece};
pub(crate) use self::handler::{Failure, Handled, Handler, created, numbered, responding};
pub(crate) use self::request::{CREDENTIAL, request, send, write};
pub(crate) use self::store::{Call, Fault, LEASE, STORE_TIMEOUT, Scripted, scripted};
pub(crate) use self::wait::{Gate, pend};
