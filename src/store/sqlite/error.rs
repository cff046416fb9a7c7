//! What an error of SQLite means to the layer.

use sqlx::error::DatabaseError;

use super::super::sql;
use super::super::{StoreError, StoreErrorKind};

/// Maps an error of the driver, which stays as the source.
pub(super) fn store_error(error: sqlx::Error) -> StoreError {
    sql::store_error(error, |code| {
        code.parse()
            .map_or(StoreErrorKind::Unavailable, |code| kind_of(Result(code)))
    })
}

/// Maps an error of the first connections, where a path that can't be opened, or that names
/// something else, is a wrong path.
pub(super) fn open_error(error: sqlx::Error) -> StoreError {
    let is_wrong = match result_of(&error) {
        Some(result) => matches!(result.primary(), CANTOPEN | NOTADB),
        None => matches!(error, sqlx::Error::Configuration(_)),
    };
    if is_wrong {
        return StoreError::new(StoreErrorKind::Misconfigured, error);
    }
    store_error(error)
}

/// Returns whether somebody else has the file.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    result_of(error).is_some_and(|result| result.primary() == BUSY || result == LOCKED_SHAREDCACHE)
}

/// Returns whether the disk, or the file's own limit, has no room.
pub(super) fn is_full(error: &sqlx::Error) -> bool {
    result_of(error).is_some_and(|result| kind_of(result) == StoreErrorKind::Full)
}

/// Returns whether a statement can't run as it is: what it needs is not there, or not so.
pub(super) fn is_refused(error: &sqlx::Error) -> bool {
    result_of(error).is_some_and(|result| result.primary() == ERROR)
}

fn kind_of(result: Result) -> StoreErrorKind {
    match result {
        IOERR_SHMSIZE => return StoreErrorKind::Full,
        IOERR_DATA | IOERR_CORRUPTFS => return StoreErrorKind::Corrupt,
        _ => {}
    }
    match result.primary() {
        FULL | TOOBIG => StoreErrorKind::Full,
        BUSY | LOCKED | INTERRUPT | PROTOCOL => StoreErrorKind::Timeout,
        CORRUPT | NOTADB => StoreErrorKind::Corrupt,
        // The store's statements are right, so the table or the right to write is not.
        ERROR | PERM | READONLY | CONSTRAINT | MISMATCH | AUTH => StoreErrorKind::Misconfigured,
        // An input or output error, no memory, too many open files.
        _ => StoreErrorKind::Unavailable,
    }
}

fn result_of(error: &sqlx::Error) -> Option<Result> {
    let code = error.as_database_error().and_then(DatabaseError::code)?;
    code.parse().ok().map(Result)
}

/// An extended result code.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Result(u32);

impl Result {
    fn primary(self) -> u32 {
        self.0 & 0xff
    }
}

const IOERR_SHMSIZE: Result = Result(10 | 19 << 8);
const IOERR_DATA: Result = Result(10 | 32 << 8);
const IOERR_CORRUPTFS: Result = Result(10 | 33 << 8);
const LOCKED_SHAREDCACHE: Result = Result(6 | 1 << 8);

const ERROR: u32 = 1;
const PERM: u32 = 3;
const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const READONLY: u32 = 8;
const INTERRUPT: u32 = 9;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const CANTOPEN: u32 = 14;
const PROTOCOL: u32 = 15;
const TOOBIG: u32 = 18;
const CONSTRAINT: u32 = 19;
const MISMATCH: u32 = 20;
const AUTH: u32 = 23;
const NOTADB: u32 = 26;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_of_sqlite_is_of_the_kind_of_its_cause() {
        for (result, kind) in [
            (13, StoreErrorKind::Full),
            (4874, StoreErrorKind::Full),
            (18, StoreErrorKind::Full),
            (5, StoreErrorKind::Timeout),
            (517, StoreErrorKind::Timeout),
            (262, StoreErrorKind::Timeout),
            (11, StoreErrorKind::Corrupt),
            (267, StoreErrorKind::Corrupt),
            (8458, StoreErrorKind::Corrupt),
            (1, StoreErrorKind::Misconfigured),
            (8, StoreErrorKind::Misconfigured),
            (1032, StoreErrorKind::Misconfigured),
            (1299, StoreErrorKind::Misconfigured),
            (10, StoreErrorKind::Unavailable),
            (778, StoreErrorKind::Unavailable),
            (1034, StoreErrorKind::Unavailable),
            (14, StoreErrorKind::Unavailable),
            (7, StoreErrorKind::Unavailable),
        ] {
            assert_eq!(kind_of(Result(result)), kind, "{result}");
        }
    }
}
