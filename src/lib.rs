//! Tower middleware that makes a retried write happen once.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod background;
mod body;
mod caller;
mod config;
mod future;
mod guarded;
mod key;
mod layer;
mod lease;
mod outcome;
mod problem;
mod service;
mod setup;
mod snapshot;
mod storable;
pub mod store;
mod trace;

pub use self::background::{Detached, Unfinished};
pub use self::body::{RequestBody, ResponseBody};
pub use self::caller::CallerId;
pub use self::future::ResponseFuture;
pub use self::key::{IdempotencyKey, InvalidKey};
pub use self::layer::IdempotencyLayer;
pub use self::outcome::{NotKept, Outcome, Unguarded};
pub use self::service::Idempotency;
pub use self::storable::{DoNotStore, is_storable};
#[cfg(feature = "memory")]
pub use self::store::MemoryStore;
pub use self::store::{RecordKey, Store, StoreError};
