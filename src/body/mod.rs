//! The bodies that the layer hands on: the request's to the handler, the response's to the client.

mod chunks;
mod collect;
mod drain;
mod recording;
mod request;
mod response;

pub(crate) use self::collect::{Collected, collect};
pub(crate) use self::drain::drain;
pub(crate) use self::recording::{Finished, Recorded, Recording};
pub use self::request::RequestBody;
pub(crate) use self::request::UploadState;
pub use self::response::ResponseBody;
