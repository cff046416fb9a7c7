//! What the stores in SQL databases share.

mod cleaner;
mod statement;

use std::time::Duration;

use sqlx::Connection;

pub(super) use self::cleaner::{Clean, clean, clean_every};
#[cfg(feature = "postgres")]
pub(super) use self::statement::inserted;
pub(super) use self::statement::{Statement, Table};
use super::wire::codec::Entry;
use super::{Begin, Claim, Ownership, StoreError, StoreErrorKind};

/// Returns the answer to a claim, from the entry that the database has under the key afterwards.
pub(super) fn begun(entry: Vec<u8>, claim: &Claim) -> Result<Begin, StoreError> {
    match Entry::decode(&entry.into())? {
        // Made by this statement, or by an earlier one whose answer was lost.
        Entry::Claim(held) if held.owner() == claim.owner() => Ok(Begin::Started),
        Entry::Claim(held) => Ok(Begin::InProgress(held.fingerprint())),
        Entry::Record(record) => Ok(Begin::Completed(record)),
    }
}

/// Returns whether an owner's step was taken, from the number of rows that it changed.
pub(super) fn ownership(rows: u64) -> Ownership {
    if rows > 0 {
        Ownership::Held
    } else {
        Ownership::Lost
    }
}

/// Refuses a connection that would commit a record at once, by itself.
pub(super) fn must_be_in_transaction(connection: &impl Connection) -> Result<(), StoreError> {
    if connection.is_in_transaction() {
        return Ok(());
    }
    Err(StoreError::new(
        StoreErrorKind::Misconfigured,
        "in_transaction was given a connection that is in no transaction: give it `&mut tx` of a \
         transaction that sqlx has begun, such as by `pool.begin()`",
    ))
}

/// Counts a duration in the database's smallest unit, rounded up.
///
/// No database can add `Duration::MAX` to a time of its own; a century is as good.
pub(super) fn count(duration: Duration, unit: Duration) -> i64 {
    let duration = duration.min(Duration::from_secs(100 * 366 * 24 * 60 * 60));
    // A century has 3.2e15 microseconds, which an `i64` holds.
    duration.as_nanos().div_ceil(unit.as_nanos()) as i64
}

/// Maps an error of the driver; `of_code` knows the codes of the database.
pub(super) fn store_error(
    error: sqlx::Error,
    of_code: impl FnOnce(&str) -> StoreErrorKind,
) -> StoreError {
    let kind = match &error {
        sqlx::Error::PoolTimedOut => StoreErrorKind::Timeout,
        sqlx::Error::Configuration(_) => StoreErrorKind::Misconfigured,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreErrorKind::Corrupt,
        sqlx::Error::Database(error) => error
            .code()
            .map_or(StoreErrorKind::Unavailable, |code| of_code(&code)),
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind, error)
}

/// How often a step is tried again that has lost a race.
///
/// Each time, another request has claimed the key and given it up in between, so only hundreds of
/// failing handlers for one key could reach this. Each try waits for the database, so the layer's
/// `store_timeout` ends the tries as well.
pub(super) const MAX_ROUNDS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_never_counted_shorter_and_any_can_be_counted() {
        let unit = Duration::from_millis(1);
        assert_eq!(count(Duration::from_millis(7), unit), 7);
        assert_eq!(count(Duration::from_micros(7001), unit), 8);
        assert_eq!(count(Duration::MAX, unit), 3_162_240_000_000);
    }
}
