//! Where connections come from, and where they go after a step.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool, Postgres};

/// Connections of the store's own, or those of the application's pool.
pub(super) enum Source {
    Own(Own),
    Shared(PgPool),
}

/// Connections of the store's own, each of which is idle or in use by one step. The steps are
/// limited, and so are the connections.
///
/// The driver's pool waits for the server once more before it takes a connection back, and if that
/// hangs, so does the place in the pool.
pub(super) struct Own {
    /// Makes connections, as the options of a pool say, and has none.
    maker: PgPool,
    /// Those that were used last come last.
    idle: Mutex<Vec<Idle>>,
    max_lifetime: Option<Duration>,
    idle_timeout: Option<Duration>,
}

struct Idle {
    connection: PgConnection,
    made: Instant,
    since: Instant,
}

/// A connection that a step uses. Unless it is given back, it is closed.
pub(super) enum Taken {
    Own {
        connection: PgConnection,
        made: Instant,
        is_reused: bool,
    },
    Shared(Borrowed),
}

/// A connection of the application's pool, which is closed without waiting: its pool would wait for
/// the server first.
pub(super) struct Borrowed(Option<PoolConnection<Postgres>>);

impl Source {
    /// Makes connections as the options of a pool say.
    pub(super) fn own(options: PgPoolOptions, how: PgConnectOptions) -> Self {
        let (max_lifetime, idle_timeout) = (options.get_max_lifetime(), options.get_idle_timeout());
        let acquire_timeout = options.get_acquire_timeout().min(CONNECT);
        // Without these, it needs no task that looks after what it has.
        let options = options
            .min_connections(0)
            .max_lifetime(None)
            .idle_timeout(None);
        Self::Own(Own {
            maker: options
                .acquire_timeout(acquire_timeout)
                .connect_lazy_with(how),
            idle: Mutex::default(),
            max_lifetime,
            idle_timeout,
        })
    }

    /// Returns how a connection is made.
    pub(super) fn how(&self) -> PgConnectOptions {
        let (Self::Own(Own { maker: pool, .. }) | Self::Shared(pool)) = self;
        PgConnectOptions::clone(&pool.connect_options())
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Self::Shared(pool) if pool.is_closed())
    }

    pub(super) async fn take(&self) -> Result<Taken, sqlx::Error> {
        match self {
            Self::Own(own) => own.take().await,
            Self::Shared(pool) => Ok(Taken::Shared(Borrowed(Some(pool.acquire().await?)))),
        }
    }

    /// Takes a connection back that has answered.
    pub(super) fn give_back(&self, taken: Taken) {
        match (self, taken) {
            (
                Self::Own(own),
                Taken::Own {
                    connection, made, ..
                },
            ) => {
                own.give_back(connection, made);
            }
            (_, Taken::Shared(mut borrowed)) => drop(borrowed.0.take()),
            (Self::Shared(_), Taken::Own { .. }) => {}
        }
    }

    /// Takes all connections of the application's pool that nobody uses.
    pub(super) fn take_idle_of_pool(&self) -> Vec<Taken> {
        let Self::Shared(pool) = self else {
            return Vec::new();
        };
        let idle = std::iter::from_fn(|| pool.try_acquire());
        idle.map(|idle| Taken::Shared(Borrowed(Some(idle))))
            .collect()
    }

    /// Closes the connections that nobody uses: one of their kind was found to be dead or useless.
    pub(super) fn clear(&self) {
        if let Self::Own(own) = self {
            own.idle().clear();
        }
    }
}

impl Own {
    async fn take(&self) -> Result<Taken, sqlx::Error> {
        let idle = self.idle().pop();
        if let Some(mut idle) = idle {
            if idle.since.elapsed() < TRUSTED || ping(&mut idle.connection).await {
                return Ok(Taken::Own {
                    connection: idle.connection,
                    made: idle.made,
                    is_reused: true,
                });
            }
            // The others have been idle for longer.
            self.idle().clear();
        }
        let connection = self.maker.acquire().await?.detach();
        Ok(Taken::Own {
            connection,
            made: Instant::now(),
            is_reused: false,
        })
    }

    fn give_back(&self, connection: PgConnection, made: Instant) {
        let now = Instant::now();
        let is_over = |since: Instant, limit: Option<Duration>| {
            limit.is_some_and(|limit| now.duration_since(since) > limit)
        };
        let mut idle = self.idle();
        if idle
            .first()
            .is_some_and(|first| is_over(first.since, self.idle_timeout))
        {
            idle.remove(0);
        }
        if !is_over(made, self.max_lifetime) {
            let since = now;
            idle.push(Idle {
                connection,
                made,
                since,
            });
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        // What is done under the lock leaves the list whole.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        match self {
            Self::Own { connection, .. } => connection,
            Self::Shared(borrowed) => borrowed.0.as_mut().expect("given back only when moved"),
        }
    }

    /// Returns whether it was used before. A pool does not say.
    pub(super) fn is_reused(&self) -> bool {
        match self {
            Self::Own { is_reused, .. } => *is_reused,
            Self::Shared(_) => true,
        }
    }

    /// Returns whether one that is made now may reach another server. A pool does not say how old
    /// its connections are.
    pub(super) fn is_old(&self) -> bool {
        match self {
            Self::Own { made, .. } => made.elapsed() > TRUSTED,
            Self::Shared(_) => true,
        }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// Returns whether a connection that was idle for long still answers.
async fn ping(connection: &mut PgConnection) -> bool {
    let answer = tokio::time::timeout(PING, connection.ping()).await;
    matches!(answer, Ok(Ok(())))
}

/// How long a new connection may take if nothing else limits it.
pub(super) const CONNECT: Duration = Duration::from_secs(5);

/// How long a connection may be idle and still be trusted, and how long it counts as new.
const TRUSTED: Duration = Duration::from_secs(1);

const PING: Duration = Duration::from_millis(200);
