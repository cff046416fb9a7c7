//! The store in a PostgreSQL database.

mod abandoned;
mod check;
mod error;
mod health;
mod migrate;
mod pool;
mod source;
mod statement;
mod statements;
mod steps;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use self::error::store_error;
use self::pool::Pool;
use self::statement::Protocol;
use self::statements::Statements;
use super::StoreError;
use super::sql::{self, Table};
use super::wire::compression::Compression;

/// A [`Store`](crate::store::Store) in a PostgreSQL database: shared by all processes that use it, and as durable as the
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
/// To read it by hand: `key` is the [`RecordKey`](crate::store::RecordKey), and a row counts as absent once `expires` has
/// passed. The role of the application needs `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the
/// table, and for `migrate` also `CREATE` on the schema, even if the table exists.
///
/// Rows that have ended take room until they are removed, and requests do not remove them. Run
/// [`PostgresStore::cleaner`] in the application, or call [`PostgresStore::clean`] from a job.
/// Several instances share the work: each skips the rows that another is removing.
///
/// # Connections
///
/// The store has at most ten connections of its own: nine for steps, and one that looks at the server
/// while the others wait for it. [`PostgresStore::new`] makes them as the options of a given pool
/// say, and as many as that one may have. [`PostgresStore::sharing`] uses those of the application
/// instead, and says what that costs. A connection is pinged before its use only if it was idle for
/// a second.
///
/// There are never more connections than that, whatever hangs. A step whose request has stopped
/// waiting goes on in the background and keeps its connection until the server answers. When all
/// connections are taken in this way, or the server accepts no new one, the store fails at once with
/// [`StoreErrorKind::Unavailable`](crate::store::StoreErrorKind::Unavailable), and the layer runs requests unprotected, until the server
/// answers again. A connection that is dead without a word is replaced when the server is at no
/// step any more that takes half a second.
///
/// A connection whose server takes no writes any more (a standby after a failover) or shuts down is
/// closed, and the step is tried once more on a new one. Where no server takes writes, because it is
/// read-only or its disk is full, what is kept is still replayed and what runs is still refused.
///
/// For TLS, turn on a TLS feature of the crate `sqlx`, such as `tls-rustls-ring-native-roots`, and add
/// `?sslmode=verify-full` to the URL. What the system trusts is trusted, and what `sslrootcert` names
/// as well. By the default, `prefer`, and by `require`, no certificate is looked at, and `prefer`
/// falls back to a connection without TLS. A certificate that is not accepted, and a server without
/// TLS, are of kind [`StoreErrorKind::Misconfigured`].
///
/// # Poolers
///
/// A pooler that pools sessions needs no settings. PgBouncer that pools transactions must be 1.21 or
/// newer, with `max_prepared_statements` above 0 (its default is 200 from 1.24 on, and 0 before) and
/// `ignore_startup_parameters = extra_float_digits`. Leave sqlx's statement cache on: with
/// `statement_cache_capacity(0)` it gives each use of a statement a name of its own, and never
/// frees one.
///
/// For poolers that know no prepared statements, call [`PostgresStore::simple_protocol`].
///
/// Where prepared statements are mixed up all the same, no wrong one acts: each carries a number
/// that the server compares. It fails with [`StoreErrorKind::Misconfigured`](crate::store::StoreErrorKind::Misconfigured) instead, the first one
/// is logged, and [`PostgresStore::check`] finds it when the application starts.
///
/// # What an operator must know
///
/// The database's `synchronous_commit` decides how durable a step is. By default, a record whose
/// response was seen survives a crash of the server. With `synchronous_commit = off`, a crash loses
/// the steps of about the last half second. A failover to an asynchronous replica loses what the
/// replica had not received.
///
/// The server's clock ends leases and ttls. If it is set forward by more than a lease while a handler
/// runs, a retry runs, too; if it is set back, the keys of processes that have died stay claimed, and
/// records kept, for that much longer. So let it be slewed, not set.
///
/// Two servers that both take writes (active-active replication) do not protect: each claims a key
/// by itself. Send all steps to one of them.
///
/// With [`PostgresStore::sharing`], a connection that the application leaves inside a transaction
/// (by a `BEGIN` of its own) takes the store's steps into it: they are undone with it, and until it
/// ends, nobody sees them, and whoever sends the same key waits for `store_timeout` and runs
/// unprotected. If the transaction had failed already, the connection is closed instead.
/// [`PostgresStore::check`] finds such a connection among the idle ones.
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
///
/// [`Store`]: crate::store::Store
/// [`RecordKey`]: crate::store::RecordKey
/// [`StoreErrorKind::Misconfigured`]: crate::store::StoreErrorKind::Misconfigured
/// [`StoreErrorKind::Unavailable`]: crate::store::StoreErrorKind::Unavailable
#[derive(Clone)]
pub struct PostgresStore {
    pool: Pool,
    table: Table,
    statements: Arc<Statements>,
    protocol: Protocol,
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
        let store = Self::connect_lazy(url)?;
        store.pool.connect().await.map_err(store_error)?;
        Ok(store)
    }

    /// Connects to a database when the first request comes.
    ///
    /// # Errors
    ///
    /// If the URL is not valid.
    pub fn connect_lazy(url: &str) -> Result<Self, StoreError> {
        let how: PgConnectOptions = url.parse().map_err(store_error)?;
        Ok(Self::with(Pool::own(PgPoolOptions::new(), how)))
    }

    /// Makes connections of the store's own, as the options of a pool say: as many as that pool may
    /// have, but at least three and at most ten.
    ///
    /// The pool itself is not used, so it does not matter how long handlers hold its connections.
    /// Its hook `after_connect` is run on each connection, and no other hook is. See [`PostgresStore::sharing`] for more connections, or
    /// for none of the store's own.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "a pool is given away as to `sharing`"
    )]
    pub fn new(pool: PgPool) -> Self {
        let options = pool.options().clone();
        let number = options.get_max_connections().min(MAX_CONNECTIONS);
        let how = PgConnectOptions::clone(&pool.connect_options());
        Self::with(Pool::own(options.max_connections(number), how))
    }

    /// Uses the connections of a pool that the application uses, too.
    ///
    /// This saves connections, and costs protection when they are scarce: a request waits for one
    /// no longer than the layer's `store_timeout`, and then runs unprotected. Where handlers hold
    /// all connections of the pool, so does every duplicate of a running request. By default the
    /// pool also pings a connection before each use (`test_before_acquire`), and always after it,
    /// so a step takes two or three round trips instead of one.
    ///
    /// While the server does not answer, the store makes one connection more than the pool may
    /// have, to look at it.
    pub fn sharing(pool: PgPool) -> Self {
        Self::with(Pool::shared(pool))
    }

    fn with(pool: Pool) -> Self {
        let table = Table::default();
        let statements = Arc::new(Statements::new(&table));
        Self {
            pool,
            table,
            statements,
            protocol: Protocol::Prepared,
            compression: Compression::default(),
        }
    }

    /// Sets whether statements go to the server as text, by the simple protocol. Default: `false`,
    /// they are prepared.
    ///
    /// This is for poolers that know no prepared statements: PgBouncer before 1.21 or with
    /// `max_prepared_statements = 0`, RDS Proxy, and Pgpool, when they pool transactions or
    /// statements. Bytes are written into the text as hexadecimal digits and numbers as decimal
    /// ones, and nothing else is. A step then takes more of the server's time, since each statement
    /// is parsed and planned, and a record takes twice its bytes on the way.
    #[must_use]
    pub fn simple_protocol(mut self, simple: bool) -> Self {
        self.protocol = if simple {
            Protocol::Simple
        } else {
            Protocol::Prepared
        };
        self
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
        migrate::migrate(&self.pool, &self.statements).await
    }

    /// Checks that the store can do its work, for the start of an application.
    ///
    /// It connects, looks at the table, the role's privileges and whether the server takes writes,
    /// runs the steps of a request under a key of its own, which it removes, and finds out whether
    /// a pooler on the way mixes up prepared statements. It uses two connections, or one where
    /// there is only one. It also looks whether an idle connection of a pool that it shares was left
    /// inside a transaction.
    ///
    /// # Errors
    ///
    /// [`Misconfigured`](crate::store::StoreErrorKind::Misconfigured) if something is set up wrongly;
    /// the source says what, and
    /// what would be right. Otherwise the kind of the failure.
    pub async fn check(&self) -> Result<(), StoreError> {
        check::check(self).await
    }

    #[doc = include_str!("../docs/clean.md")]
    pub async fn clean(&self) -> Result<u64, StoreError> {
        sql::clean(self).await
    }

    #[doc = include_str!("../docs/cleaner.md")]
    pub fn cleaner(&self, pause: Duration) -> impl Future<Output = Infallible> + Send + use<> {
        sql::clean_every(self.clone(), pause)
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

/// How many connections the store has of its own unless a pool says fewer.
const MAX_CONNECTIONS: u32 = 10;
