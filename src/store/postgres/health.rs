//! Whether the server answers, so that no request waits for a server that does not.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, Row};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::abandoned::Abandoned;
use super::source::Source;
use super::statement::MARK;

/// What is known of the server.
///
/// A request that met an error or stopped waiting makes the server suspect. One task then asks it on
/// a connection of its own, and if it does not answer soon, the server counts as down until it does.
///
/// Without this, an outage would be slow to end: requests would queue for connections in order, and
/// each would begin to connect only when its own time is nearly up, and give that up as well.
#[derive(Default)]
pub(super) struct Health {
    down: AtomicBool,
    watched: AtomicBool,
}

impl Health {
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Acquire)
    }

    /// Makes sure that a task looks at the server.
    pub(super) fn suspect(
        self: &Arc<Self>,
        runtime: &Handle,
        source: &Arc<Source>,
        abandoned: &Arc<Abandoned>,
    ) {
        if !self.watched.swap(true, Ordering::AcqRel) {
            let (health, abandoned) = (Arc::downgrade(self), Arc::clone(abandoned));
            runtime.spawn(watch(health, Arc::downgrade(source), abandoned));
        }
    }
}

/// Asks the server until it answers and no step goes on in the background, or the store is gone.
async fn watch(health: Weak<Health>, source: Weak<Source>, abandoned: Arc<Abandoned>) {
    let mut connection = None;
    loop {
        let Some(how) = how(&source) else {
            return;
        };
        let mut asking = pin!(ask(connection.take(), &how));
        let answer = match timeout(SOON, asking.as_mut()).await {
            Ok(answer) => answer,
            Err(_) => {
                let Some(health) = health.upgrade() else {
                    return;
                };
                health.down.store(true, Ordering::Release);
                drop(health);
                // On the same connection, whose session would stay at a server that is only slow.
                timeout(LONG, asking).await.unwrap_or_default()
            }
        };
        let Some(health) = health.upgrade() else {
            return;
        };
        let was_down = health.down.load(Ordering::Acquire);
        if let Some(Answer {
            connection: kept,
            is_at_some,
        }) = answer
        {
            connection = kept;
            health.down.store(false, Ordering::Release);
            abandoned.end(is_at_some, was_down);
            if abandoned.count() == 0 {
                break;
            }
            drop(health);
            sleep(LOOK).await;
        } else {
            health.down.store(true, Ordering::Release);
            drop(health);
            sleep(PAUSE).await;
        }
    }
    if let Some(connection) = connection {
        let _ = timeout(SOON, sqlx::Connection::close(connection)).await;
    }
    // A server that accepts connections and fails requests is not asked all the time.
    sleep(PAUSE).await;
    if let Some(health) = health.upgrade() {
        health.watched.store(false, Ordering::Release);
    }
}

/// Returns how to connect, unless the store is gone.
fn how(source: &Weak<Source>) -> Option<PgConnectOptions> {
    let source = source.upgrade()?;
    (!source.is_closed()).then(|| source.how())
}

/// What the server says.
struct Answer {
    /// For the next question.
    connection: Option<PgConnection>,
    /// Whether it is at steps that take long.
    is_at_some: bool,
}

/// Asks the server whether it is at steps that take long; returns nothing if it does not answer.
async fn ask(connection: Option<PgConnection>, how: &PgConnectOptions) -> Option<Answer> {
    let asked = async {
        let mut connection = match connection {
            Some(connection) => connection,
            None => how.connect().await?,
        };
        let sql = AssertSqlSafe(IS_AT_SOME.replace("MARK", MARK));
        let row = sqlx::raw_sql(sql).fetch_one(&mut connection).await?;
        let is_at_some = row.try_get(0)?;
        let connection = Some(connection);
        Ok(Answer {
            connection,
            is_at_some,
        })
    };
    match asked.await {
        Ok(answer) => Some(answer),
        // Any other error is an answer, too: perhaps there is no room for another connection.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() != Some(STARTING) => {
            Some(Answer {
                connection: None,
                is_at_some: true,
            })
        }
        Err(_) => None,
    }
}

/// Whether a session of this role runs a statement of a store for longer than a step takes. Whose
/// store that is can't be seen, and behind a pooler nobody knows which session is whose.
const IS_AT_SOME: &str = "
SELECT EXISTS (
    SELECT FROM pg_stat_activity WHERE usename = current_user
    AND (state = 'disabled' OR state = 'active' AND query LIKE 'MARK%'
        AND query_start NOT BETWEEN clock_timestamp() - interval '500 ms' AND clock_timestamp())
)";

/// cannot_connect_now: the server is starting up or shutting down.
const STARTING: &str = "57P03";

/// After which time without an answer the server counts as down: less than any sensible
/// `store_timeout`.
const SOON: Duration = Duration::from_millis(250);

/// How much longer a try may take. A network that is back is noticed by the next try.
const LONG: Duration = Duration::from_secs(2);

const PAUSE: Duration = Duration::from_millis(50);

/// The pause between two looks at steps that go on in the background.
const LOOK: Duration = Duration::from_millis(250);
