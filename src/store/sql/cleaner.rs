//! How what has ended is removed from a table, away from all requests.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::super::{StoreError, StoreErrorKind};
use crate::trace;

/// A store that what has ended can be removed from.
pub(crate) trait Clean: Send + Sync + 'static {
    /// The number of rows that are removed in one step.
    const BATCH: u64;

    /// Removes at most `BATCH` rows that have ended, and tells how many.
    fn clean_batch(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// Removes all that has ended, and tells how many rows it were.
pub(crate) async fn clean<S: Clean>(store: &S) -> Result<u64, StoreError> {
    let mut removed = 0;
    loop {
        let start = Instant::now();
        let batch = match tokio::time::timeout(LIMIT, store.clean_batch()).await {
            Ok(batch) => batch?,
            Err(_) => return Err(StoreErrorKind::Timeout.into()),
        };
        removed += batch;
        if batch < S::BATCH {
            return Ok(removed);
        }
        // At least half of the time is left to the requests.
        tokio::time::sleep(start.elapsed()).await;
    }
}

/// Removes all that has ended, again and again for as long as it is polled.
pub(crate) async fn clean_every<S: Clean>(store: S, pause: Duration) -> Infallible {
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = clean(&store).await {
            trace::cleaning_failed(&error);
        }
    }
}

/// How long one step may take: a connection that is dead without a word must not end the cleaning.
const LIMIT: Duration = Duration::from_secs(30);
