//! What an error of the driver means to the layer.

use redis::{ErrorKind, RedisError};

use super::super::{StoreError, StoreErrorKind};

/// Maps an error of the driver, which stays as the source.
pub(super) fn store_error(error: RedisError) -> StoreError {
    StoreError::new(kind_of(&error), error)
}

fn kind_of(error: &RedisError) -> StoreErrorKind {
    match error.code() {
        // The server is at `maxmemory`, and its policy is not to evict.
        Some("OOM") => StoreErrorKind::Full,
        // There is something else under the name of a record.
        Some("WRONGTYPE") => StoreErrorKind::Corrupt,
        _ if error.is_timeout() => StoreErrorKind::Timeout,
        _ => StoreErrorKind::Unavailable,
    }
}

/// The error of a reply that the command does not have.
pub(super) fn unexpected_reply() -> StoreError {
    store_error(RedisError::from((
        ErrorKind::UnexpectedReturnType,
        "the server gave a reply that the command does not have",
    )))
}
