//! The store in a PostgreSQL database.

mod health;
mod pool;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{Postgres, Row};

use self::pool::Pool;
use super::sql::{self, Clean, MAX_ROUNDS, Statement, Table};
use super::wire::codec::{claim_prefix, encode_claim, encode_record};
use super::wire::compression::Compression;
use super::{Begin, Claim, Owner, Ownership, Record, RecordKey, Store, StoreError, StoreErrorKind};

/// A [`Store`] in a PostgreSQL database, shared by all processes that use it, and as durable as the
/// database.
///
/// A claim, a replay and each other step take one statement, in one round trip; a first write is two
/// of them. A clone works on the same records and the same pool. All time is the server's.
///
/// # Table
///
/// [`PostgresStore::migrate`] makes the table. An application whose tables are made by migrations of
/// its own adds this to them; it is what `migrate` runs:
///
/// ```sql
#[doc = include_str!("schema.sql")]
/// ```
///
/// To read it by hand: `key` is the [`RecordKey`], and a row is as good as absent once `expires` has
/// passed. The role of the application needs `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the table.
///
/// Rows that have ended take room until they are removed, which no request does: run
/// [`PostgresStore::cleaner`] in the application, or call [`PostgresStore::clean`] from a job.
///
/// # Connection
///
/// A request that no longer waits for its answer closes the connection, and a server that then takes
/// no new one counts as down: the store fails at once with [`StoreErrorKind::Unavailable`], and the
/// layer runs requests unprotected, until the server is found to be back by a task that tries it all
/// the time.
///
/// [`PostgresStore::connect`] makes a pool of ten connections, which are used without a ping before,
/// unless they were idle for a second.
///
/// [`PostgresStore::new`] takes the application's pool, with its settings. By default sqlx pings a
/// connection before each use, which makes every step two round trips (`test_before_acquire`).
/// Requests wait their turn for a connection at most for the layer's `store_timeout`, and then run
/// unprotected: where the handlers hold connections of the same pool for long, give the store a pool
/// of its own. For TLS, turn on a TLS feature of the crate `sqlx`, such as `tls-rustls`. Behind a
/// proxy that pools transactions, prepared statements must be supported (PgBouncer: from 1.21) or
/// turned off (`statement_cache_capacity(0)`).
///
/// # What an operator must know
///
/// A step is committed as the database's `synchronous_commit` says. By default, a record whose
/// response was seen survives a crash of the server. With `synchronous_commit = off`, a crash loses
/// the steps of the last half second or so; a failover to an asynchronous replica loses what it had
/// not received. A lost record means that a retry runs again; a lost claim means that a retry that
/// comes while the first request still runs is not refused, but runs too.
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
    /// If the address is none, or the server can't be reached within a few seconds or refuses the
    /// connection. An application that must start without its database calls
    /// [`PostgresStore::connect_lazy`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let pool = pool::options().connect(url).await.map_err(store_error)?;
        Ok(Self::new(pool))
    }

    /// Takes a database's address, and connects when the first request comes.
    ///
    /// # Errors
    ///
    /// If the address is none.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn connect_lazy(url: &str) -> Result<Self, StoreError> {
        let pool = pool::options().connect_lazy(url).map_err(store_error)?;
        Ok(Self::new(pool))
    }

    /// Uses a pool that the application has.
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

    /// Sets the schema that the table is in. It must exist. Default: the first one in the
    /// connection's `search_path`.
    ///
    /// # Panics
    ///
    /// Panics unless the name is of `a`-`z`, `0`-`9` and `_`, does not start with a digit, and is at
    /// most 55 long.
    #[must_use]
    pub fn schema(mut self, schema: &str) -> Self {
        self.table.schema(schema);
        self.statements = Arc::new(Statements::new(&self.table));
        self
    }

    /// Sets the name of the table. Default: `idempotency`.
    ///
    /// # Panics
    ///
    /// Panics unless the name is of `a`-`z`, `0`-`9` and `_`, does not start with a digit, and is at
    /// most 55 long.
    #[must_use]
    pub fn table(mut self, table: &str) -> Self {
        self.table.name(table);
        self.statements = Arc::new(Statements::new(&self.table));
        self
    }

    /// Sets that records of more than `bytes` bytes are compressed (zstd). Default: none is.
    ///
    /// JSON becomes two to five times smaller, which pays where memory or the network is what is
    /// short, and costs about 90 µs for 64 KiB. Give all instances the feature `zstd` before the
    /// first one compresses: one without it can't read such a record, and runs the handler.
    #[cfg(feature = "zstd")]
    #[must_use]
    pub fn compress_over(mut self, bytes: usize) -> Self {
        self.compression = Compression::over(bytes);
        self
    }

    /// Makes the table and its index, unless they are there.
    ///
    /// Several instances may call this at once, and each at every start. The role needs `CREATE` on
    /// the schema, also where the table is there.
    ///
    /// # Errors
    ///
    /// Whatever befell the database.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let sql = self.statements.migrate.sql();
        let migrated = sqlx::raw_sql(sql).execute(self.pool.plain()).await;
        migrated.map(|_| ()).map_err(store_error)
    }

    /// Removes the rows that have ended, in small steps with pauses, and returns how many it were.
    ///
    /// # Errors
    ///
    /// Whatever befell the database. What had been removed stays removed.
    pub async fn clean(&self) -> Result<u64, StoreError> {
        sql::clean(self).await
    }

    /// Returns a future that calls [`PostgresStore::clean`] at once and then each time a pause has
    /// passed, for as long as it is polled.
    ///
    /// Spawn it to start, and abort its task to stop; either is safe at any moment. Several instances
    /// may clean at once: each skips the rows that another is at. A failure is logged and mended by
    /// the next round.
    ///
    /// # Panics
    ///
    /// The future panics if the pause is zero.
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
                // Another request has claimed the key since this statement took its snapshot. By
                // now that can be seen.
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

fn store_error(error: sqlx::Error) -> StoreError {
    sql::store_error(error, |code| match code {
        // disk_full, and program_limit_exceeded: a value above a gigabyte.
        "53100" | "54000" => StoreErrorKind::Full,
        // query_canceled, by a `statement_timeout`; lock_not_available, by a `lock_timeout`.
        "57014" | "55P03" => StoreErrorKind::Timeout,
        // data_corrupted, index_corrupted.
        "XX001" | "XX002" => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Unavailable,
    })
}

/// Tells whether the statement would do if it were run again: where the database's default is a
/// stricter isolation than read committed, that is the answer to a race.
fn is_lost_race(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    // serialization_failure, deadlock_detected.
    matches!(code.as_deref(), Some("40001" | "40P01"))
}

fn micros(duration: Duration) -> i64 {
    sql::count(duration, Duration::from_micros(1))
}

struct Statements {
    migrate: Statement,
    begin: Statement,
    complete: Statement,
    renew: Statement,
    release: Statement,
    clean: Statement,
}

impl Statements {
    fn new(table: &Table) -> Self {
        let schema = include_str!("schema.sql");
        Self {
            migrate: Statement::new(&format!("{LOCK}{schema}"), table),
            begin: Statement::new(BEGIN, table),
            complete: Statement::new(COMPLETE, table),
            renew: Statement::new(RENEW, table),
            release: Statement::new(RELEASE, table),
            clean: Statement::new(CLEAN, table),
        }
    }
}

/// `IF NOT EXISTS` alone fails where two sessions make one table at once. Sent in one message with
/// what follows, and so held until that is committed. The number is a random one.
const LOCK: &str = "SELECT pg_advisory_xact_lock(6143859403172650215);\n";

/// Answers with the entry that holds the key, which is the new claim if the key was free; with no
/// row if another session has claimed the key since the statement began.
///
/// What is there is looked for first, since `ON CONFLICT` locks the row even where its condition is
/// false, and so a replay would write and wait for the disk.
const BEGIN: &str = r#"
WITH found AS (
    SELECT entry FROM "idempotency" WHERE key = $1 AND expires > now()
), claimed AS (
    INSERT INTO "idempotency" AS held (key, expires, entry)
    SELECT $1, now() + $3::bigint * interval '1 microsecond', $2
    WHERE NOT EXISTS (SELECT FROM found)
    ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, entry = excluded.entry
    WHERE held.expires <= now()
    RETURNING entry
)
SELECT entry FROM found UNION ALL SELECT entry FROM claimed"#;

/// Changes no row if the key is another's claim or has a record.
///
/// A claim starts with its owner, and nothing else does: see the module `wire::codec`.
const COMPLETE: &str = r#"
INSERT INTO "idempotency" AS held (key, expires, entry)
VALUES ($1, now() + $4::bigint * interval '1 microsecond', $3)
ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, entry = excluded.entry
WHERE held.expires <= now() OR substring(held.entry FROM 1 FOR 18) = $2
RETURNING true"#;

const RENEW: &str = r#"
UPDATE "idempotency" SET expires = now() + $3::bigint * interval '1 microsecond'
WHERE key = $1 AND substring(entry FROM 1 FOR 18) = $2 AND expires > now()
RETURNING true"#;

const RELEASE: &str = r#"
DELETE FROM "idempotency"
WHERE key = $1 AND substring(entry FROM 1 FOR 18) = $2 AND expires > now()
RETURNING true"#;

/// The index on `expires` makes this 20 times as fast in a table of 300,000 rows (2 ms for a step
/// beside 40), and costs a first write a quarter more of the write-ahead log. Since every step changes
/// `expires`, no update can stay within its page's chain (HOT), and so a lower fillfactor made the
/// table larger and nothing else.
///
/// The keys are looked for once, in an array, since a plan may run a plain subquery more than once
/// and then remove more than it should.
const CLEAN: &str = r#"
WITH removed AS (
    DELETE FROM "idempotency" WHERE key = ANY (ARRAY(
        SELECT key FROM "idempotency" WHERE expires <= now()
        ORDER BY expires LIMIT $1 FOR UPDATE SKIP LOCKED
    ))
    RETURNING true
)
SELECT count(*) FROM removed"#;
