//! How a step waits while another process is at the file.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::error::is_busy;

/// Does something again for as long as another process is at the file.
///
/// SQLite has no queue for that. A short pause between two tries keeps a process from waiting long
/// while another takes one turn after the other.
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

/// How long a step waits for another process, where nothing else limits it: a layer's
/// `store_timeout` is far below.
const PATIENCE: Duration = Duration::from_secs(10);
