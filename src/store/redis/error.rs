//! What an error of the driver means to the layer.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::super::{StoreError, StoreErrorKind};

/// Maps an error of the driver, which stays as the source.
pub(super) fn store_error(error: RedisError) -> StoreError {
    StoreError::new(kind_of(&error), error)
}

/// Returns whether the server has answered that it does not do what it was asked for.
///
/// It may still read: one that is full, that has lost its replicas or its disk, or that is a
/// replica, refuses a write before it looks at what is under the key.
pub(super) fn is_refusal(error: &RedisError) -> bool {
    error.code().is_some() && kind_of(error) != StoreErrorKind::Corrupt
}

/// Returns whether the error is about how the store is set up.
pub(super) fn is_misconfigured(error: &RedisError) -> bool {
    kind_of(error) == StoreErrorKind::Misconfigured
}

fn kind_of(error: &RedisError) -> StoreErrorKind {
    match error.code() {
        // The server is at `maxmemory`, and its policy is not to evict.
        Some("OOM") => StoreErrorKind::Full,
        // There is something else under the name of a record.
        Some("WRONGTYPE") => StoreErrorKind::Corrupt,
        // Who the store is, what it may do, that strangers may do nothing (protected mode), that
        // the protocol of the URL is not spoken, and that this is one node of a cluster.
        Some("NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" | "NOPROTO" | "MOVED") => {
            StoreErrorKind::Misconfigured
        }
        _ if error.is_timeout() => StoreErrorKind::Timeout,
        _ if is_of_the_settings(error) => StoreErrorKind::Misconfigured,
        // The rest passes: READONLY, NOREPLICAS, MISCONF, LOADING, MASTERDOWN, CLUSTERDOWN, BUSY and
        // whatever a newer server may answer, and all failures of the network.
        _ => StoreErrorKind::Unavailable,
    }
}

fn is_of_the_settings(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::AuthenticationFailed
        | ErrorKind::InvalidClientConfig
        | ErrorKind::MasterNameNotFoundBySentinel
        | ErrorKind::EmptySentinelList
        | ErrorKind::RESP3NotSupported => true,
        // Without an answer of the server inside, it is the driver's word on a refused `SELECT`.
        ErrorKind::Server(ServerErrorKind::ResponseError) => {
            error.clone().into_server_errors().is_none()
        }
        _ => false,
    }
}

/// The error of a reply that the command does not have.
pub(super) fn unexpected_reply() -> StoreError {
    store_error(RedisError::from((
        ErrorKind::UnexpectedReturnType,
        "the server gave a reply that the command does not have",
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the parser makes it from a server's reply.
    fn answer(code: &str) -> RedisError {
        let reply = format!("-{code} because\r\n");
        let reply = redis::parse_redis_value(reply.as_bytes());
        reply
            .and_then(redis::Value::extract_error)
            .expect_err("an error")
    }

    #[test]
    fn every_answer_of_a_server_that_refuses_has_a_kind() {
        use StoreErrorKind::{Corrupt, Full, Misconfigured, Unavailable};
        let kinds = [
            ("OOM", Full),
            ("WRONGTYPE", Corrupt),
            ("NOAUTH", Misconfigured),
            ("WRONGPASS", Misconfigured),
            ("NOPERM", Misconfigured),
            ("DENIED", Misconfigured),
            ("NOPROTO", Misconfigured),
            ("MOVED", Misconfigured),
            ("READONLY", Unavailable),
            ("NOREPLICAS", Unavailable),
            ("MISCONF", Unavailable),
            ("LOADING", Unavailable),
            ("MASTERDOWN", Unavailable),
            ("CLUSTERDOWN", Unavailable),
            ("TRYAGAIN", Unavailable),
            ("BUSY", Unavailable),
            ("NOSCRIPT", Unavailable),
            ("ERR", Unavailable),
            ("NEWER", Unavailable),
        ];
        for (code, kind) in kinds {
            let error = answer(code);
            assert_eq!(kind_of(&error), kind, "{code}");
            assert_eq!(is_refusal(&error), kind != Corrupt, "{code}");
        }
    }

    #[test]
    fn an_error_that_is_no_answer_is_no_refusal() {
        use std::io::ErrorKind::{BrokenPipe, TimedOut};
        let kinds = [
            (TimedOut, StoreErrorKind::Timeout),
            (BrokenPipe, StoreErrorKind::Unavailable),
        ];
        for (cause, kind) in kinds {
            let error = RedisError::from(std::io::Error::from(cause));
            assert_eq!(kind_of(&error), kind);
            assert!(!is_refusal(&error));
        }
    }
}
