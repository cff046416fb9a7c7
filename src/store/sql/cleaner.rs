//! The removal of rows that have ended, apart from all requests.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::super::{StoreError, StoreErrorKind};
use crate::trace;

/// A store from which rows that have ended can be removed.
pub(crate) trait Clean: Send + Sync + 'static {
    /// The number of rows that are removed in one step.
    const BATCH: u64;

    /// Removes at most `BATCH` rows that have ended, and returns their number.
    fn clean_batch(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// Removes all rows that have ended, and returns their number.
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
        // Leaves at least half of the time to requests.
        tokio::time::sleep(start.elapsed()).await;
    }
}

/// Removes all rows that have ended, again after each pause, for as long as it is polled.
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

/// How long one step may take: a connection that has died silently must not end the cleaning.
const LIMIT: Duration = Duration::from_secs(30);
