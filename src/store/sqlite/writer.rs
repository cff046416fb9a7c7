//! How a step writes: in turn, and with the room that it may use.

use std::sync::Arc;

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Row, Sqlite, SqlitePool};
use tokio::sync::{Mutex, MutexGuard};

use super::super::{StoreError, StoreErrorKind};
use super::error::{is_full, store_error};
use super::patience::patiently;
use super::reserve::{HALF, Left, Reserve};

/// What the writing steps of a process share.
#[derive(Clone)]
pub(super) struct Writer {
    /// Locked during each write, so that the writes of this process take turns in order.
    turn: Arc<Mutex<()>>,
    reserve: Reserve,
}

/// What a step writes for, which decides what it may do when the disk is full.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// Makes a claim, which takes room that others need to end.
    Claim,
    /// Makes a record of so many bytes in the place of a claim.
    Complete(usize),
    /// Renews a claim or gives it up.
    Hold,
    /// Makes room.
    Remove,
}

impl Step {
    /// Returns how many free pages must be in the file for this, so that it need not grow.
    ///
    /// What is left must do for the next: a log whose pages wait for the file to grow can't start
    /// over, and the reserve is there for that only once.
    fn free_pages(self, left: Left) -> i64 {
        match (self, left) {
            (Self::Claim, Left::Half | Left::Nothing) => 32,
            (Self::Complete(bytes), Left::Nothing) => 8 + (bytes / MIN_PAGE) as i64,
            _ => 0,
        }
    }

    /// Returns whether this may try again with more room, and how much of the reserve it leaves.
    fn leaves(self, left: Left) -> Option<u64> {
        match (self, left) {
            (Self::Claim, Left::Whole) => None,
            (Self::Claim, _) => Some(u64::MAX),
            (Self::Complete(_) | Self::Hold, _) => Some(HALF),
            (Self::Remove, _) => Some(0),
        }
    }
}

impl Writer {
    pub(super) fn new(reserve: Reserve) -> Self {
        Self {
            turn: Arc::default(),
            reserve,
        }
    }

    /// Waits for this process's turn to write.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Runs a statement that writes, and returns how many rows it has changed.
    pub(super) async fn write<'q>(
        &self,
        pool: &SqlitePool,
        step: Step,
        query: impl Fn() -> Query<'q, Sqlite, SqliteArguments>,
    ) -> Result<u64, StoreError> {
        let _turn = self.turn().await;
        let left = self.reserve.left();
        must_have(pool, step.free_pages(left)).await?;
        let mut written = patiently(|| query().execute(pool)).await;
        let is_refused = written.as_ref().err().is_some_and(is_full);
        if let (true, Some(leave)) = (is_refused, step.leaves(left)) {
            self.reserve.use_up(leave);
            restart_log(pool).await;
            written = patiently(|| query().execute(pool)).await;
        }
        written
            .map(|done| done.rows_affected())
            .map_err(store_error)
    }

    /// Takes back what was used of the reserve, if there is room again.
    pub(super) async fn restore_reserve(&self) {
        let reserve = self.reserve.clone();
        let _turn = self.turn().await;
        // It does not panic, and is not cancelled.
        let _ = tokio::task::spawn_blocking(move || reserve.restore()).await;
    }
}

/// Refuses a step for which the file does not have so many free pages.
async fn must_have(pool: &SqlitePool, pages: i64) -> Result<(), StoreError> {
    if pages == 0 {
        return Ok(());
    }
    let count = || sqlx::query("PRAGMA freelist_count").fetch_one(pool);
    let count = patiently(count).await.and_then(|row| row.try_get(0));
    let count: i64 = count.map_err(store_error)?;
    if count < pages {
        let why = "the disk was full, and there is no room until rows have been removed";
        return Err(StoreError::new(StoreErrorKind::Full, why));
    }
    Ok(())
}

/// Writes what is in the log to the file, so that the next write starts the log over.
async fn restart_log(pool: &SqlitePool) {
    // What fails here, or is held up by a reader, leaves the log as it is.
    let _ = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
        .fetch_optional(pool)
        .await;
}

/// The smallest page of a file that SQLite makes by itself.
const MIN_PAGE: usize = 1024;
