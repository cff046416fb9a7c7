//! What an error of PostgreSQL means to the layer.

use std::error::Error;
use std::fmt;
use std::io;

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use super::super::sql;
use super::super::{StoreError, StoreErrorKind};

/// What an error says of the connection that it came on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfConnection {
    /// Nothing.
    No,
    /// It is at its end, or in a state that no statement of the store has brought about.
    Yes,
    /// Its server takes no writes, and perhaps another one does by now.
    ReadOnly,
    /// Something on the way mixes up prepared statements.
    Pooler,
}

/// Maps an error of the driver, which stays as the source.
pub(super) fn store_error(error: sqlx::Error) -> StoreError {
    if of_connection(&error) == OfConnection::Pooler {
        return StoreError::new(StoreErrorKind::Misconfigured, MixedUp(error));
    }
    // A column of another type: the driver reads any bytes as an entry.
    let is_of_table = matches!(error, sqlx::Error::ColumnDecode { .. });
    if is_of_table || is_of_tls(&error) {
        return StoreError::new(StoreErrorKind::Misconfigured, error);
    }
    sql::store_error(error, |code| match code {
        // disk_full, and program_limit_exceeded: a value above a gigabyte.
        "53100" | "54000" => StoreErrorKind::Full,
        // query_canceled, by a `statement_timeout`; lock_not_available, by a `lock_timeout`.
        "57014" | "55P03" => StoreErrorKind::Timeout,
        // data_corrupted, index_corrupted.
        "XX001" | "XX002" => StoreErrorKind::Corrupt,
        // undefined_table, undefined_column, datatype_mismatch, undefined_function: another table.
        // invalid_column_reference: no unique key. insufficient_privilege.
        "42P01" | "42703" | "42804" | "42883" | "42P10" | "42501" => StoreErrorKind::Misconfigured,
        // invalid_authorization_specification, invalid_password, invalid_catalog_name (no such
        // database), invalid_schema_name.
        "28000" | "28P01" | "3D000" | "3F000" => StoreErrorKind::Misconfigured,
        _ => StoreErrorKind::Unavailable,
    })
}

/// Returns what an error says of the connection that it came on.
pub(super) fn of_connection(error: &sqlx::Error) -> OfConnection {
    let sqlx::Error::Database(error) = error else {
        // The connection broke, or nobody knows what its next bytes are.
        return OfConnection::Yes;
    };
    match error.code().as_deref() {
        // invalid_sql_statement_name, duplicate_prepared_statement, feature_not_supported (a plan
        // whose result is another one now), and what a statement does that was bound as another:
        // protocol_violation, invalid_binary_representation, division_by_zero (by its number).
        Some("26000" | "42P05" | "0A000" | "08P01" | "22P03" | "22012") => OfConnection::Pooler,
        // read_only_sql_transaction.
        Some("25006") => OfConnection::ReadOnly,
        // in_failed_sql_transaction; admin_shutdown, crash_shutdown, cannot_connect_now,
        // database_dropped, idle_session_timeout.
        Some("25P02" | "57P01" | "57P02" | "57P03" | "57P04" | "57P05") => OfConnection::Yes,
        _ => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) if is_last(error) => OfConnection::Yes,
            _ => OfConnection::No,
        },
    }
}

/// Returns whether the server has closed the connection with this error.
fn is_last(error: &PgDatabaseError) -> bool {
    matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)
}

/// Returns whether an error may mean that the server is gone.
pub(super) fn is_of_server(error: &sqlx::Error) -> bool {
    match error {
        // admin_shutdown, crash_shutdown, cannot_connect_now.
        sqlx::Error::Database(error) => {
            matches!(error.code().as_deref(), Some("57P01" | "57P02" | "57P03"))
        }
        sqlx::Error::Io(_) => !is_of_tls(error),
        sqlx::Error::PoolTimedOut => true,
        _ => false,
    }
}

/// Returns whether client and server do not agree on TLS: one of them has none, or a certificate is
/// not accepted.
fn is_of_tls(error: &sqlx::Error) -> bool {
    let is_agreed = |error: &io::Error| error.kind() != io::ErrorKind::InvalidData;
    match error {
        // What one of the driver's libraries says of a handshake.
        sqlx::Error::Io(error) => !is_agreed(error),
        // The driver's own word, or the other library's, which may have met a broken connection.
        sqlx::Error::Tls(error) => {
            let first: &(dyn Error + 'static) = &**error;
            let mut chain = std::iter::successors(Some(first), |&error| error.source());
            !chain.any(|error| error.downcast_ref().is_some_and(is_agreed))
        }
        _ => false,
    }
}

/// Returns whether the statement has lost a race, so that it may be run again. This happens if the
/// database's default isolation is stricter than read committed.
pub(super) fn is_lost_race(error: &sqlx::Error) -> bool {
    // serialization_failure, deadlock_detected.
    matches!(code(error).as_deref(), Some("40001" | "40P01"))
}

/// Returns whether the server takes no writes, but may still read.
pub(super) fn refuses_writes(error: &sqlx::Error) -> bool {
    // read_only_sql_transaction, disk_full.
    matches!(code(error).as_deref(), Some("25006" | "53100"))
}

/// Returns whether the statement was surely not run, on a connection that is no good.
pub(super) fn is_not_run(error: &sqlx::Error) -> bool {
    match of_connection(error) {
        OfConnection::ReadOnly | OfConnection::Pooler => true,
        OfConnection::Yes => is_in_failed_transaction(error),
        OfConnection::No => false,
    }
}

/// Returns whether the connection is inside a transaction that another statement has spoilt.
pub(super) fn is_in_failed_transaction(error: &sqlx::Error) -> bool {
    // in_failed_sql_transaction.
    code(error).as_deref() == Some("25P02")
}

/// Returns whether a lock was not to be had in time.
pub(super) fn is_locked(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("55P03"))
}

fn code(error: &sqlx::Error) -> Option<std::borrow::Cow<'_, str>> {
    error.as_database_error().and_then(DatabaseError::code)
}

/// Prepared statements were mixed up, which the store has noticed before a wrong one could act.
#[derive(Debug)]
struct MixedUp(sqlx::Error);

impl fmt::Display for MixedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "prepared statements are mixed up on the way to the server; a pooler must know them \
             (PgBouncer 1.21 or newer with max_prepared_statements above 0, and no \
             statement_cache_capacity(0) here), or call PostgresStore::simple_protocol",
        )
    }
}

impl Error for MixedUp {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tls_that_is_not_agreed_on_is_a_fault_of_the_setup_and_a_broken_connection_is_none() {
        let broken = || io::Error::from(io::ErrorKind::ConnectionReset);
        let refused = || io::Error::new(io::ErrorKind::InvalidData, "invalid peer certificate");
        for (error, kind) in [
            (
                sqlx::Error::Tls("server does not support TLS".into()),
                StoreErrorKind::Misconfigured,
            ),
            (
                sqlx::Error::Tls(refused().into()),
                StoreErrorKind::Misconfigured,
            ),
            (refused().into(), StoreErrorKind::Misconfigured),
            (
                sqlx::Error::Tls(broken().into()),
                StoreErrorKind::Unavailable,
            ),
            (broken().into(), StoreErrorKind::Unavailable),
        ] {
            let text = format!("{error:?}");
            assert_eq!(store_error(error).kind(), kind, "{text}");
        }
    }
}
