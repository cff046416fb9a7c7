//! The store in a PostgreSQL database.

mod error;
mod health;
mod pool;
mod statements;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{Postgres, Row};

use self::error::{is_lost_race, store_error};
use self::pool::Pool;
use self::statements::Statements;
use super::sql::{self, Clean, MAX_ROUNDS, Table};
use super::wire::codec::{claim_prefix, encode_claim, encode_record};
use super::wire::compression::Compression;
use super::{Begin, Claim, Owner, Ownership, Record, RecordKey, Store, StoreError, StoreErrorKind};

/// A [`Store`] in a PostgreSQL database: shared by all processes that use it, and as durable as the
/// database.
///
/// Each step is one statement and takes one round trip: a replay is one step, a first write two. A
/// clone works on the same records and the same pool. All time is the server's.
///
/// # Table
///
/// [`PostgresStore::migrate`] makes the table. An application with migrations of its own adds this
/// to them instead, which is what `migrate` runs:
///
/// ```sql
#[doc = include_str!("schema.sql")]
/// ```
///
/// To read it by hand: `key` is the [`RecordKey`], and a row counts as absent once `expires` has
/// passed. The role of the application needs `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the
/// table, and for `migrate` also `CREATE` on the schema, even if the table exists.
///
/// Rows that have ended take room until they are removed, and requests do not remove them. Run
/// [`PostgresStore::cleaner`] in the application, or call [`PostgresStore::clean`] from a job.
/// Several instances share the work: each skips the rows that another is removing.
///
/// # Connection
///
/// A request that stops waiting for its answer closes the connection. If the server then accepts no
/// new one, it counts as down: the store fails at once with [`StoreErrorKind::Unavailable`], and
/// the layer runs requests unprotected. Meanwhile a task keeps trying to connect, and ends this
/// when the server is back.
///
/// [`PostgresStore::connect`] makes a pool of ten connections. A connection is pinged before its
/// use only if it was idle for a second.
///
/// [`PostgresStore::new`] uses the application's pool, with its settings. By default sqlx pings a
/// connection before each use (`test_before_acquire`), so every step takes two round trips.
/// Requests wait for a connection for at most the layer's `store_timeout`, and then run
/// unprotected: if handlers hold connections of the same pool for long, give the store a pool of
/// its own. For TLS, turn on a TLS feature of the crate `sqlx`, such as `tls-rustls`. A proxy that
/// pools transactions must support prepared statements (PgBouncer does from 1.21), or they must be
/// turned off (`statement_cache_capacity(0)`).
///
/// # What an operator must know
///
/// The database's `synchronous_commit` decides how durable a step is. By default, a record whose
/// response was seen survives a crash of the server. With `synchronous_commit = off`, a crash loses
/// the steps of about the last half second. A failover to an asynchronous replica loses what the
/// replica had not received.
///
/// After the loss of a record, a retry runs again. After the loss of a claim, a retry that comes
/// while the first request still runs is not refused, but runs too.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use tower_idempotency::{IdempotencyLayer, PostgresStore};
///
/// # async fn run() -> Result<(), tower_idempotency::StoreError> {
/// let store = PostgresStore::connect("postgres://app@127.0.0.1/app").await?;
/// store.migrate().await?;
/// // Ends with the runtime, or when it is aborted.
/// let cleaner = tokio::spawn(store.cleaner(Duration::from_secs(60)));
/// let layer = IdempotencyLayer::new(store);
/// # let _ = (layer, cleaner);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresStore {
    pool: Pool,
    table: Table,
    statements: Arc<Statements>,
    compression: Compression,
}

impl PostgresStore {
    /// Connects to a database: `postgres://[user[:password]@]host[:port]/database`.
    ///
    /// # Errors
    ///
    /// If the URL is not valid, the server can't be reached within a few seconds, or it refuses the
    /// connection. An application that must start without its database calls
    /// [`PostgresStore::connect_lazy`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let pool = pool::options().connect(url).await.map_err(store_error)?;
        Ok(Self::new(pool))
    }

    /// Connects to a database when the first request comes.
    ///
    /// # Errors
    ///
    /// If the URL is not valid.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn connect_lazy(url: &str) -> Result<Self, StoreError> {
        let pool = pool::options().connect_lazy(url).map_err(store_error)?;
        Ok(Self::new(pool))
    }

    /// Uses a pool that the application already has.
    pub fn new(pool: PgPool) -> Self {
        let table = Table::default();
        let statements = Arc::new(Statements::new(&table));
        Self {
            pool: Pool::new(pool),
            table,
            statements,
            compression: Compression::default(),
        }
    }

    /// Sets the schema that the table is in, which must exist. Default: the first one in the
    /// connection's `search_path`.
    ///
    /// # Panics
    ///
    /// Panics if the name could not be that of a [`table`](Self::table).
    #[must_use]
    pub fn schema(mut self, schema: &str) -> Self {
        self.table.schema(schema);
        self.statements = Arc::new(Statements::new(&self.table));
        self
    }

    #[doc = include_str!("../docs/table.md")]
    #[must_use]
    pub fn table(mut self, table: &str) -> Self {
        self.table.name(table);
        self.statements = Arc::new(Statements::new(&self.table));
        self
    }

    #[doc = include_str!("../docs/compress_over.md")]
    #[cfg(feature = "zstd")]
    #[must_use]
    pub fn compress_over(mut self, bytes: usize) -> Self {
        self.compression = Compression::over(bytes);
        self
    }

    #[doc = include_str!("../docs/migrate.md")]
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let sql = self.statements.migrate.sql();
        let migrated = sqlx::raw_sql(sql).execute(self.pool.plain()).await;
        migrated.map(|_| ()).map_err(store_error)
    }

    #[doc = include_str!("../docs/clean.md")]
    pub async fn clean(&self) -> Result<u64, StoreError> {
        sql::clean(self).await
    }

    #[doc = include_str!("../docs/cleaner.md")]
    pub fn cleaner(&self, pause: Duration) -> impl Future<Output = Infallible> + Send + use<> {
        sql::clean_every(self.clone(), pause)
    }

    /// Runs the step of an owner, and reports whether it was taken.
    async fn step<'q>(
        &self,
        query: impl Fn() -> Query<'q, Postgres, PgArguments>,
    ) -> Result<Ownership, StoreError> {
        for _ in 0..MAX_ROUNDS {
            match self.pool.run(query()).await {
                Ok(changed) => return Ok(sql::ownership(u64::from(changed.is_some()))),
                Err(error) if is_lost_race(&error) => {}
                Err(error) => return Err(store_error(error)),
            }
        }
        Err(StoreErrorKind::Unavailable.into())
    }
}

impl fmt::Debug for PostgresStore {
    /// Leaves the pool out: its options may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

impl Store for PostgresStore {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        let entry = encode_claim(claim);
        let mut may_reconnect = true;
        for _ in 0..MAX_ROUNDS {
            let query = self.statements.begin.query();
            let query = query
                .bind(&key.as_bytes()[..])
                .bind(&entry[..])
                .bind(micros(lease));
            match self.pool.run(query).await {
                Ok(Some(row)) => return sql::begun(row.try_get(0).map_err(store_error)?, claim),
                // Another request has claimed the key since this statement took its snapshot. The
                // next statement sees that claim.
                Ok(None) => {}
                Err(error) if is_lost_race(&error) => {}
                // The server was restarted since the connection was last used. If it had claimed
                // the key, the next statement finds that.
                Err(sqlx::Error::Io(_)) if may_reconnect => may_reconnect = false,
                Err(error) => return Err(store_error(error)),
            }
        }
        Err(StoreErrorKind::Unavailable.into())
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        let prefix = claim_prefix(owner);
        let entry = encode_record(record, self.compression);
        let completed = || {
            let query = self.statements.complete.query();
            query
                .bind(&key.as_bytes()[..])
                .bind(&prefix[..])
                .bind(&entry[..])
                .bind(micros(ttl))
        };
        self.step(completed).await
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        let prefix = claim_prefix(owner);
        let renewed = || {
            let query = self.statements.renew.query();
            query
                .bind(&key.as_bytes()[..])
                .bind(&prefix[..])
                .bind(micros(lease))
        };
        self.step(renewed).await
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        let prefix = claim_prefix(owner);
        let released = || {
            let query = self.statements.release.query();
            query.bind(&key.as_bytes()[..]).bind(&prefix[..])
        };
        self.step(released).await
    }
}

impl Clean for PostgresStore {
    const BATCH: u64 = 500;

    async fn clean_batch(&self) -> Result<u64, StoreError> {
        let query = self.statements.clean.query().bind(Self::BATCH as i64);
        let removed = self.pool.run(query).await.map_err(store_error)?;
        let removed: i64 = match removed {
            Some(row) => row.try_get(0).map_err(store_error)?,
            None => 0,
        };
        Ok(removed.unsigned_abs())
    }
}

fn micros(duration: Duration) -> i64 {
    sql::count(duration, Duration::from_micros(1))
}
