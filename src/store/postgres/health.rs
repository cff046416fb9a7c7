//! Whether the server answers, so that no request waits for a server that does not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgPool};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

/// What is known of the server.
///
/// A request that met an error or stopped waiting makes the server suspect. One task then tries to
/// connect, and if that does not succeed soon, the server counts as down until it does.
///
/// Without this, an outage would be slow to end: requests would queue for the pool in order, and
/// each would begin to connect only when its own time is nearly up, and give that up as well.
#[derive(Debug, Default)]
pub(super) struct Health {
    down: AtomicBool,
    probed: AtomicBool,
}

impl Health {
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Acquire)
    }

    /// Makes sure that a task looks at the server.
    pub(super) fn suspect(self: &Arc<Self>, pool: &PgPool) {
        if self.probed.swap(true, Ordering::AcqRel) {
            return;
        }
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(probe(Arc::downgrade(self), pool.clone()))),
            Err(_) => self.probed.store(false, Ordering::Release),
        }
    }
}

/// Tries to connect until that succeeds, or the store is gone.
async fn probe(health: Weak<Health>, pool: PgPool) {
    let mut limit = SOON;
    while !pool.is_closed() {
        let answers = answers(&pool.connect_options(), limit).await;
        let Some(health) = health.upgrade() else {
            return;
        };
        health.down.store(!answers, Ordering::Release);
        if answers {
            break;
        }
        drop(health);
        limit = (limit * 2).min(LONG);
        sleep(PAUSE).await;
    }
    // A server that accepts connections and fails requests is not probed all the time.
    sleep(PAUSE).await;
    if let Some(health) = health.upgrade() {
        health.probed.store(false, Ordering::Release);
    }
}

/// Returns whether the server accepts a connection within a time.
async fn answers(options: &PgConnectOptions, limit: Duration) -> bool {
    match timeout(limit, options.connect()).await {
        Ok(Ok(connection)) => {
            let _ = timeout(limit, connection.close()).await;
            true
        }
        // Any other error is an answer, too: perhaps there is no room for another connection.
        Ok(Err(sqlx::Error::Database(error))) => error.code().as_deref() != Some(STARTING),
        Ok(Err(_)) | Err(_) => false,
    }
}

/// cannot_connect_now: the server is starting up or shutting down.
const STARTING: &str = "57P03";

/// How long the first try may take: less than any sensible `store_timeout`.
const SOON: Duration = Duration::from_millis(250);

/// How long a later try may take. A network that is back is noticed by the next try.
const LONG: Duration = Duration::from_secs(2);

const PAUSE: Duration = Duration::from_millis(50);
