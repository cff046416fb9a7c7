//! Making the table without stopping those who use it.

use std::time::{Duration, Instant};

use sqlx::Row;
use tokio::time::sleep;

use super::super::sql;
use super::super::{StoreError, StoreErrorKind};
use super::error::{is_locked, is_lost_race, store_error};
use super::pool::{Failed, Pool};
use super::statement::Bound;
use super::statements::Statements;

/// Makes the table and its index, unless they are there.
///
/// A statement that waits for a lock of the table makes every writer wait that comes after it. So
/// nothing is locked if there is nothing to do, and otherwise no wait is long.
pub(super) async fn migrate(pool: &Pool, statements: &Statements) -> Result<(), StoreError> {
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match try_to_migrate(pool, statements).await {
            Ok(()) => return Ok(()),
            Err(failed) if is_locked(&failed.error) || is_lost_race(&failed.error) => {
                if start.elapsed() > PATIENCE {
                    return Err(StoreError::new(StoreErrorKind::Timeout, failed.error));
                }
            }
            Err(failed) => return Err(store_error(failed.error)),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

async fn try_to_migrate(pool: &Pool, statements: &Statements) -> Result<(), Failed> {
    let is_migrated = pool.run(as_text(&statements.is_migrated)).await?;
    let is_migrated = is_migrated.map(|row| row.try_get(0)).transpose()?;
    if is_migrated != Some(true) {
        pool.run(as_text(&statements.migrate)).await?;
    }
    Ok(())
}

fn as_text(statement: &sql::Statement) -> Bound {
    Bound::Simple(statement.text())
}

/// How long the table may be locked by others before `migrate` gives up.
const PATIENCE: Duration = Duration::from_secs(30);

const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Far longer than the wait for a lock, so that writers have most of the time.
const LAST_PAUSE: Duration = Duration::from_secs(1);
