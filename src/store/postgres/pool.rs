//! Steps at the server, never more at once than there may be connections, whatever hangs.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::abandoned::Abandoned;
use super::error::{self, OfConnection};
use super::health::Health;
use super::source::Source;
use super::statement::Bound;
use crate::trace;

/// The connections of a store, and what is known of the server behind them.
#[derive(Clone)]
pub(super) struct Pool {
    source: Arc<Source>,
    places: Arc<Semaphore>,
    number: usize,
    health: Arc<Health>,
    abandoned: Arc<Abandoned>,
}

/// Why a step failed, and whether it may succeed on another connection.
pub(super) struct Failed {
    pub(super) error: sqlx::Error,
    pub(super) may_be_stale: bool,
}

impl Pool {
    /// Makes connections of the store's own, as the options of a pool say: at least three, and of
    /// these one that looks at the server while the others wait for it.
    pub(super) fn own(options: PgPoolOptions, how: PgConnectOptions) -> Self {
        let number = options.get_max_connections().max(3) - 1;
        let source = Source::own(options.max_connections(number), how);
        Self::of(source, number)
    }

    /// Uses the connections of a pool, and one more that looks at the server.
    pub(super) fn shared(pool: PgPool) -> Self {
        let number = pool.options().get_max_connections();
        Self::of(Source::Shared(pool), number)
    }

    fn of(source: Source, number: u32) -> Self {
        let number = number as usize;
        Self {
            source: Arc::new(source),
            places: Arc::new(Semaphore::new(number)),
            number,
            health: Arc::default(),
            abandoned: Arc::default(),
        }
    }

    /// Runs a statement, and returns the last row that it answers with, if any.
    ///
    /// # Cancellation
    ///
    /// A statement that is under way goes on in the background.
    pub(super) async fn run(&self, statement: Bound) -> Result<Option<PgRow>, Failed> {
        let place = self.place().await?;
        let is_sent = Arc::new(AtomicBool::new(false));
        let step = step(self.clone(), place, statement, Arc::clone(&is_sent));
        let running = Running {
            pool: self,
            runtime: Handle::current(),
            is_sent,
            step: Some(Box::pin(step)),
        };
        running.await
    }

    /// Waits for a place among the connections, unless that is known to be in vain.
    pub(super) async fn place(&self) -> Result<OwnedSemaphorePermit, Failed> {
        if self.health.is_down() || self.abandoned.count() >= self.number {
            return Err(Down.into());
        }
        let places = Arc::clone(&self.places);
        places.acquire_owned().await.map_err(|_| Down.into())
    }

    /// Takes a place if there is one.
    pub(super) fn place_at_once(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Returns where connections come from, for who has places.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// Makes the first connection, to see that it can be made.
    pub(super) async fn connect(&self) -> Result<(), sqlx::Error> {
        let connection = self.source.take().await?;
        self.source.give_back(connection);
        Ok(())
    }
}

/// Runs a statement to its end, and returns the connection unless that has become useless.
async fn step(
    pool: Pool,
    place: OwnedSemaphorePermit,
    statement: Bound,
    is_sent: Arc<AtomicBool>,
) -> Result<Option<PgRow>, Failed> {
    let mut taken = match pool.source.take().await {
        Ok(taken) => taken,
        Err(error) => {
            pool.note(&error);
            return Err(error.into());
        }
    };
    is_sent.store(true, Ordering::Release);
    // All of the answer: an error can come behind the row, when the step is committed.
    let error = match statement.fetch_all(taken.connection()).await {
        Ok(mut rows) => {
            pool.source.give_back(taken);
            drop(place);
            return Ok(rows.pop());
        }
        Err(error) => error,
    };
    pool.note(&error);
    let is_useless = match error::of_connection(&error) {
        OfConnection::No => false,
        OfConnection::ReadOnly => taken.is_old(),
        OfConnection::Yes => true,
        OfConnection::Pooler => {
            trace::statements_mixed_up(&error);
            true
        }
    };
    let may_be_stale = is_useless && taken.is_reused();
    if !is_useless {
        pool.source.give_back(taken);
    } else if !matches!(error::of_connection(&error), OfConnection::Pooler) {
        pool.source.clear();
    }
    Err(Failed {
        error,
        may_be_stale,
    })
}

impl Pool {
    /// Has the server looked at after an error that may mean that it is gone.
    fn note(&self, error: &sqlx::Error) {
        if error::is_of_server(error) {
            self.suspect(&Handle::current());
        }
    }

    fn suspect(&self, runtime: &Handle) {
        self.health.suspect(runtime, &self.source, &self.abandoned);
    }
}

/// A step under way. If it is dropped before the answer, it goes on in the background.
struct Running<'p, F>
where
    F: Future<Output = Result<Option<PgRow>, Failed>> + Send + 'static,
{
    pool: &'p Pool,
    runtime: Handle,
    is_sent: Arc<AtomicBool>,
    step: Option<Pin<Box<F>>>,
}

impl<F> Future for Running<'_, F>
where
    F: Future<Output = Result<Option<PgRow>, Failed>> + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let step = self
            .step
            .as_mut()
            .expect("`Running` is polled after it has ended");
        let answer = ready!(step.as_mut().poll(context));
        self.step = None;
        Poll::Ready(answer)
    }
}

impl<F> Drop for Running<'_, F>
where
    F: Future<Output = Result<Option<PgRow>, Failed>> + Send + 'static,
{
    fn drop(&mut self) {
        if let Some(step) = self.step.take() {
            let is_sent = Arc::clone(&self.is_sent);
            let step = async move { drop(step.await) };
            self.pool.abandoned.carry_on(&self.runtime, is_sent, step);
            self.pool.suspect(&self.runtime);
        }
    }
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self {
            error,
            may_be_stale: false,
        }
    }
}

impl From<Down> for Failed {
    fn from(down: Down) -> Self {
        sqlx::Error::from(io::Error::new(io::ErrorKind::NotConnected, down)).into()
    }
}

/// The server is known to be down, or to hang.
#[derive(Debug)]
struct Down;

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server did not answer, and is tried in the background")
    }
}

impl std::error::Error for Down {}
