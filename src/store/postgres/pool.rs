//! Connections to PostgreSQL, which a server that hangs can't hold on to.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::{PoolConnection, PoolConnectionMetadata};
use sqlx::postgres::{PgArguments, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::{Connection, PgConnection, PgPool, Postgres};

use super::health::Health;

/// A pool, and what is known of the server behind it.
#[derive(Clone)]
pub(super) struct Pool {
    pool: PgPool,
    health: Arc<Health>,
}

impl Pool {
    pub(super) fn new(pool: PgPool) -> Self {
        let health = Arc::default();
        Self { pool, health }
    }

    /// Returns the pool itself, for uses other than requests.
    pub(super) fn plain(&self) -> &PgPool {
        &self.pool
    }

    /// Runs a statement, and returns the row that it answers with, if any.
    pub(super) async fn run(
        &self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Option<PgRow>, sqlx::Error> {
        if self.health.is_down() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, Down).into());
        }
        let mut step = Step {
            pool: self,
            connection: None,
            is_answered: false,
        };
        let answer = step.take(query).await;
        step.is_answered = !answer.as_ref().is_err_and(is_of_connection);
        // The pool itself notices an error of the connection.
        drop(step.connection.take());
        answer
    }
}

/// A statement under way. If it is dropped before the answer, its connection is closed.
///
/// The pool would first wait for the server to answer, and a server that hangs would soon hold all
/// connections.
struct Step<'p> {
    pool: &'p Pool,
    connection: Option<PoolConnection<Postgres>>,
    is_answered: bool,
}

impl Step<'_> {
    async fn take(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Option<PgRow>, sqlx::Error> {
        let connection = self.pool.pool.acquire().await?;
        query
            .fetch_optional(&mut **self.connection.insert(connection))
            .await
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
        if !self.is_answered {
            self.pool.health.suspect(&self.pool.pool);
        }
    }
}

/// Returns whether an error may mean that the server is gone.
fn is_of_connection(error: &sqlx::Error) -> bool {
    match error {
        // admin_shutdown, crash_shutdown, cannot_connect_now.
        sqlx::Error::Database(error) => {
            matches!(error.code().as_deref(), Some("57P01" | "57P02" | "57P03"))
        }
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        _ => false,
    }
}

/// The server is known to be down.
#[derive(Debug)]
struct Down;

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server did not answer, and is tried in the background")
    }
}

impl std::error::Error for Down {}

/// Returns the options of a pool that the store makes itself.
pub(super) fn options() -> PgPoolOptions {
    PgPoolOptions::new()
        .acquire_timeout(CONNECT)
        // A test would be a round trip before each statement.
        .test_before_acquire(false)
        .before_acquire(check_if_idle)
}

/// Pings a connection that was idle for long and may have died meanwhile.
#[allow(clippy::needless_pass_by_value, reason = "the pool calls it so")]
fn check_if_idle(connection: &mut PgConnection, of: PoolConnectionMetadata) -> Checked<'_> {
    Box::pin(async move {
        if of.idle_for < IDLE {
            return Ok(true);
        }
        ping(connection, Duration::from_millis(200)).await
    })
}

async fn ping(connection: &mut PgConnection, limit: Duration) -> Result<bool, sqlx::Error> {
    match tokio::time::timeout(limit, connection.ping()).await {
        Ok(answer) => answer.map(|()| true),
        // An error makes the pool close the connection without saying goodbye to the server.
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}

type Checked<'c> = Pin<Box<dyn Future<Output = Result<bool, sqlx::Error>> + Send + 'c>>;

/// How long a new connection may take if nothing else limits it.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a connection may be idle and still be trusted.
const IDLE: Duration = Duration::from_secs(1);
