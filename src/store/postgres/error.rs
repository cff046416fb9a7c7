//! What an error of PostgreSQL means to the layer.

use sqlx::error::DatabaseError;

use super::super::sql;
use super::super::{StoreError, StoreErrorKind};

/// Maps an error of the driver, which stays as the source.
pub(super) fn store_error(error: sqlx::Error) -> StoreError {
    sql::store_error(error, |code| match code {
        // disk_full, and program_limit_exceeded: a value above a gigabyte.
        "53100" | "54000" => StoreErrorKind::Full,
        // query_canceled, by a `statement_timeout`; lock_not_available, by a `lock_timeout`.
        "57014" | "55P03" => StoreErrorKind::Timeout,
        // data_corrupted, index_corrupted.
        "XX001" | "XX002" => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Unavailable,
    })
}

/// Returns whether the statement has lost a race, so that it may be run again. This happens if the
/// database's default isolation is stricter than read committed.
pub(super) fn is_lost_race(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    // serialization_failure, deadlock_detected.
    matches!(code.as_deref(), Some("40001" | "40P01"))
}
