//! What the store needs of a connection: one command, one reply.

use std::future::Future;
use std::pin::Pin;

use redis::aio::ConnectionLike;
use redis::{Cmd, RedisResult, Value};

/// A connection that many requests use at once.
pub(super) trait Connection: Send + Sync {
    /// Sends a command and waits for its reply. A reply that reports an error is an `Err`.
    fn ask<'a>(&'a self, command: &'a Cmd) -> Reply<'a>;

    /// Waits until there is a connection, or says why there can be none.
    fn ready(&self) -> Reply<'_>;
}

pub(super) type Reply<'a> = Pin<Box<dyn Future<Output = RedisResult<Value>> + Send + 'a>>;

/// The application's own connection. It is cloned for each command, as the driver intends.
pub(super) struct Given<C>(pub(super) C);

impl<C> Connection for Given<C>
where
    C: ConnectionLike + Clone + Send + Sync,
{
    fn ask<'a>(&'a self, command: &'a Cmd) -> Reply<'a> {
        Box::pin(async move {
            self.0
                .clone()
                .req_packed_command(command)
                .await?
                .extract_error()
        })
    }

    /// The application has made it.
    fn ready(&self) -> Reply<'_> {
        Box::pin(std::future::ready(Ok(Value::Okay)))
    }
}
