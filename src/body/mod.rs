//! The bodies that the layer hands on: the request's to the handler, the response's to the client.

mod ahead;
mod chunks;
mod collect;
mod drain;
mod recording;
mod request;
mod response;

pub(crate) use self::collect::{Collected, End, Read, collect, read};
pub(crate) use self::drain::{DrainLimits, drain};
pub(crate) use self::recording::{Recorded, Recorder};
pub use self::request::RequestBody;
pub(crate) use self::request::UploadState;
pub(crate) use self::response::Ahead;
pub use self::response::ResponseBody;
