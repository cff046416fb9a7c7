//! How a step waits while another process has the file.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::error::is_busy;

/// Tries something again for as long as another process has the file.
///
/// SQLite has no queue for this. With short pauses between tries, a process does not wait long
/// while another takes turn after turn.
pub(super) async fn patiently<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, sqlx::Error>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    let start = Instant::now();
    loop {
        match attempt().await {
            Err(error) if is_busy(&error) && start.elapsed() < PATIENCE => {}
            result => return result,
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// How long a step waits for another process if nothing else limits it. A layer's `store_timeout`
/// is far shorter.
const PATIENCE: Duration = Duration::from_secs(10);
