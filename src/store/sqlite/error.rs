//! What an error of SQLite means to the layer.

use sqlx::error::DatabaseError;

use super::super::sql;
use super::super::{StoreError, StoreErrorKind};

/// Maps an error of the driver, which stays as the source.
pub(super) fn store_error(error: sqlx::Error) -> StoreError {
    sql::store_error(error, |code| match primary(code) {
        // SQLITE_FULL, SQLITE_TOOBIG.
        Some(13 | 18) => StoreErrorKind::Full,
        Some(BUSY) => StoreErrorKind::Timeout,
        // SQLITE_CORRUPT, SQLITE_NOTADB.
        Some(11 | 26) => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Unavailable,
    })
}

/// Returns whether another process has the file.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.and_then(|code| primary(&code)) == Some(BUSY)
}

/// Returns whether the disk, or the file's own limit, has no room.
pub(super) fn is_full(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.and_then(|code| primary(&code)) == Some(FULL)
}

/// Returns the primary part of a result code. The driver gives extended codes.
fn primary(code: &str) -> Option<u32> {
    code.parse::<u32>().ok().map(|code| code & 0xff)
}

/// SQLITE_FULL.
const FULL: u32 = 13;

/// SQLITE_BUSY.
const BUSY: u32 = 5;
