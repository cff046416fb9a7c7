//! Tower middleware that makes a retried write happen once.
//!
//! A client sends a write with an `Idempotency-Key` header, and sends it again with the same key
//! when the answer gets lost. [`IdempotencyLayer`] goes round any Tower service of HTTP requests (an
//! axum `Router`, a hyper service) and runs the handler once: a retry gets the first response again.
//! It follows the [IETF draft].
//!
//! [IETF draft]: https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
//!
//! # Example
//!
//! ```
//! use axum::{Router, body::Body, routing::post};
//! use http::Request;
//! use tower::ServiceExt;
//! use tower_idempotency::{IdempotencyLayer, MemoryStore};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), axum::BoxError> {
//! let app: Router = Router::new()
//!     .route("/vms", post(async || "created"))
//!     .layer(IdempotencyLayer::new(MemoryStore::new()));
//!
//! for replayed in [false, true] {
//!     let request = Request::post("/vms")
//!         .header("x-api-key", "alice-key")
//!         .header("idempotency-key", "order-1")
//!         .body(Body::empty())?;
//!     let response = app.clone().oneshot(request).await?;
//!     assert_eq!(response.headers().contains_key("idempotency-replayed"), replayed);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The layer belongs inside compression, timeouts, authentication and rate limits, and outside
//! concurrency limits and whatever sets task-locals. With axum, put it on the outer `Router`, not on
//! one that is then nested. The [guide] has more:
//!
//! - [exactly once](guide::exactly_once): how a handler commits its effects and its response together;
//! - [choices](guide::choices): waiting, failing closed, and words of one's own;
//! - [where the layer belongs](guide::placement), with a whole stack in code, and settings for each
//!   route;
//! - [who the caller is](guide::callers), if many users share a credential, or credentials change;
//! - [operation](guide::operations): which store, how much room, what to watch, how to stop;
//! - [outages](guide::outages): what requests get while a store fails, for how long, and what is lost;
//! - [security](guide::security): what the layer protects, and what it does not.
//!
//! # How a request travels
//!
//! 1. **Is it ours?** If the method is not one of [`methods`], or there is no key, the inner service
//!    is called, and nothing else happens.
//! 2. **The key** is read and checked: an [`IdempotencyKey`]. An invalid one is refused.
//! 3. **The caller** is identified, by default from the credentials in the headers: a [`CallerId`].
//!    Caller and key make the [`RecordKey`], under which the store is asked.
//! 4. **The store** claims the key for this request, or says what is there: a request in progress
//!    (refused, or waited for: see [`InFlight`]), or a record (replayed; refused if it is of another
//!    method or target).
//! 5. **The handler** runs, once. Its claim is a lease, which is renewed meanwhile. If the client
//!    leaves, the handler runs on in the background: see [`Detached`]. If the client leaves before
//!    the handler has begun, it does not run.
//! 6. **The response** is kept if [`is_kept_by_default`] or a rule of your own says so, and goes out
//!    unchanged. Otherwise, the key is free again.
//!
//! A refusal or a replay answers at once. What its client is still uploading is read behind the
//! answer, within limits, so that the connection does not break under the client. A response body
//! of unknown size goes to the client as it comes. It is read ahead of a slow client, up to
//! [`max_response_bytes`], so that the key does not wait for the client.
//!
//! # Outcomes
//!
//! The response to a write has its [`Outcome`] in the extensions, for logs and metrics.
//!
//! | what arrives | what happens | [`Outcome`] |
//! |---|---|---|
//! | a method that is not protected, such as GET | passes through | [`PassedThrough`](Outcome::PassedThrough) |
//! | a write without a key | passes through unprotected; 400 with [`require_key`] | [`PassedThrough`](Outcome::PassedThrough), [`MissingKey`](Outcome::MissingKey) |
//! | an invalid key, or more than one | 400 | [`InvalidKey`](Outcome::InvalidKey) |
//! | a key, but no caller can be identified | passes through unprotected; 400 with [`require_key`] | [`PassedThrough`](Outcome::PassedThrough), [`UnknownCaller`](Outcome::UnknownCaller) |
//! | a key for the first time | the handler runs, its response is kept | [`Kept`](Outcome::Kept), [`Recording`](Outcome::Recording) |
//! | the same, and the body is over [`max_response_bytes`] | the handler runs, status and headers are kept | [`KeptWithoutBody`](Outcome::KeptWithoutBody) |
//! | the same, and the response is not to be kept | the handler runs, the key is free again | [`NotKept`](Outcome::NotKept) |
//! | again, after the answer | the kept response, with `Idempotency-Replayed: true` | [`Replayed`](Outcome::Replayed) |
//! | again, while the first request is running | 409 with `Retry-After`; its answer with [`InFlight::Wait`] | [`InProgress`](Outcome::InProgress) |
//! | again, for another method or target | 422 | [`KeyReused`](Outcome::KeyReused) |
//! | the store fails or hangs | the handler runs unprotected, after [`store_timeout`] at most; 503 with [`StoreFailure::Closed`] | [`StoreFailed`](Outcome::StoreFailed) |
//!
//! An error or a panic of the inner service passes through unchanged, and frees the key. A handler that
//! keeps its response by itself, in a transaction, is answered for as [`Transactional`] says.
//! Refusals are problem details (RFC 9457) with a stable `code`.
//!
//! [`methods`]: IdempotencyLayer::methods
//! [`require_key`]: IdempotencyLayer::require_key
//! [`max_response_bytes`]: IdempotencyLayer::max_response_bytes
//! [`store_timeout`]: IdempotencyLayer::store_timeout
//!
//! # Stores
//!
//! | store | durable | shared between processes | feature |
//! |---|---|---|---|
//! | [`MemoryStore`] | no | no | `memory` |
//! | [`RedisStore`] | as Redis is set up | yes | `redis` |
//! | [`PostgresStore`] | as the database | yes | `postgres` |
//! | [`SqliteStore`] | yes | on one machine | `sqlite` |
//! | your own [`Store`] | as you make it | as you make it | none |
//!
//! [`DynStore`](store::DynStore) lets an application choose its store at run time.
//!
// Those of a feature that is off are not here to be linked to.
#![cfg_attr(feature = "memory", doc = "[`MemoryStore`]: MemoryStore")]
#![cfg_attr(
    not(feature = "memory"),
    doc = "[`MemoryStore`]: https://docs.rs/tower-idempotency/latest/tower_idempotency/struct.MemoryStore.html"
)]
#![cfg_attr(feature = "redis", doc = "[`RedisStore`]: RedisStore")]
#![cfg_attr(
    not(feature = "redis"),
    doc = "[`RedisStore`]: https://docs.rs/tower-idempotency/latest/tower_idempotency/struct.RedisStore.html"
)]
#![cfg_attr(feature = "postgres", doc = "[`PostgresStore`]: PostgresStore")]
#![cfg_attr(
    not(feature = "postgres"),
    doc = "[`PostgresStore`]: https://docs.rs/tower-idempotency/latest/tower_idempotency/struct.PostgresStore.html"
)]
#![cfg_attr(feature = "sqlite", doc = "[`SqliteStore`]: SqliteStore")]
#![cfg_attr(
    not(feature = "sqlite"),
    doc = "[`SqliteStore`]: https://docs.rs/tower-idempotency/latest/tower_idempotency/struct.SqliteStore.html"
)]
//!
//! # Features
//!
//! ```sh
//! cargo add tower-idempotency --features redis
//! ```
//!
//! | feature | default | pulls in | without it |
//! |---|---|---|---|
//! | `memory` | yes | `dashmap` | there is no [`MemoryStore`] |
//! | `tracing` | yes | `tracing`, without its macros | nothing is logged, such as a store that fails; [`Outcome`] still says so |
//! | `redis` | no | `redis`, `crc32fast` | there is no [`RedisStore`] |
//! | `postgres` | no | `sqlx` (Rust 1.94), `crc32fast` | there is no [`PostgresStore`] |
//! | `sqlite` | no | `sqlx` (Rust 1.94, and a C compiler for SQLite), `crc32fast` | there is no [`SqliteStore`] |
//! | `zstd` | no | `zstd` (and a C compiler) | records are not compressed, and compressed ones of another instance can't be read |
//! | `conformance` | no | nothing | there is no kit to test a store of your own with |
//!
//! # Minimum supported Rust version
//!
//! Rust 1.85, which is the highest `rust-version` in the metadata of the crate's dependencies; 1.94
//! with the features `postgres` or `sqlite`.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
mod caller;
mod config;
mod detached;
mod future;
mod guarded;
pub mod guide;
mod in_flight;
mod keep;
mod key;
mod layer;
mod outage;
mod outcome;
mod refusal;
mod runtime;
mod service;
pub mod store;
mod store_failure;
mod trace;
mod transactional;

pub use self::body::{RequestBody, ResponseBody};
pub use self::caller::CallerId;
pub use self::detached::{Detached, Unfinished};
pub use self::future::ResponseFuture;
pub use self::in_flight::InFlight;
pub use self::keep::{DoNotKeep, KeepFor, is_kept_by_default};
pub use self::key::{IdempotencyKey, InvalidKey};
pub use self::layer::IdempotencyLayer;
pub use self::outcome::{NotKept, Outcome, Unprotected};
pub use self::refusal::Refusal;
pub use self::service::Idempotency;
#[cfg(feature = "memory")]
#[doc(inline)]
pub use self::store::MemoryStore;
#[cfg(feature = "postgres")]
#[doc(inline)]
pub use self::store::PostgresStore;
#[cfg(feature = "redis")]
#[doc(inline)]
pub use self::store::RedisStore;
#[cfg(feature = "sqlite")]
#[doc(inline)]
pub use self::store::SqliteStore;
#[doc(inline)]
pub use self::store::{RecordKey, Store, StoreError};
pub use self::store_failure::StoreFailure;
pub use self::transactional::{Transactional, TransactionalError, TransactionalErrorKind};

/// Has the tests compile the README's code.
#[cfg(all(doctest, feature = "memory"))]
#[doc = include_str!("../README.md")]
struct Readme;
