//! The store in a SQLite file.

mod check;
mod error;
mod patience;
mod place;
mod reserve;
mod statements;
mod steps;
mod writer;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Executor, SqlitePool};

use self::check::{check_pool, check_table};
use self::error::{is_full, open_error, store_error};
use self::patience::patiently;
use self::place::Place;
use self::reserve::{HALF, Reserve};
use self::statements::Statements;
use self::writer::Writer;
use super::StoreError;
use super::sql::{self, Table};
use super::wire::compression::Compression;

/// A [`Store`](crate::store::Store) in a SQLite file: durable, and shared by the processes of one machine.
///
/// A clone works on the same records and the same connections.
///
/// # Table
///
/// [`SqliteStore::migrate`] makes the table. An application with migrations of its own adds this to
/// them instead, which is what `migrate` runs:
///
/// ```sql
#[doc = include_str!("schema.sql")]
/// ```
///
/// To read it by hand: `key` is the [`RecordKey`](crate::store::RecordKey), and a row counts as absent once `expires`, in
/// milliseconds since 1970, has passed. Time is that of the machine's clock.
///
/// Rows that have ended take room until they are removed, and requests do not remove them. Run
/// [`SqliteStore::cleaner`] in the application, or call [`SqliteStore::clean`] from a job. Their
/// room is then used again, but the file does not shrink.
///
/// # Durability
///
/// [`SqliteStore::open`] uses the write-ahead log (WAL): readers and the writer do not wait for
/// each other, and a `kill -9` at any moment loses nothing and leaves the file whole.
///
/// - A record waits for the disk (`synchronous = FULL`): if its response was seen, it is there even
///   after a power cut.
/// - A claim, its renewal and its release do not wait (`synchronous = NORMAL`): a power cut ends
///   the handlers as well, so a claim that is lost with it has nothing left to protect.
///
/// The file must be on a local disk: SQLite's locks and its log do not work over a network.
///
/// # Full disk
///
/// A store on a full disk replays what is kept, refuses what runs, and answers new claims with
/// [`StoreErrorKind::Full`](crate::store::StoreErrorKind::Full). Removing rows, and ending what was claimed before, needs room, too. So
/// the first [`clean`](Self::clean) or [`cleaner`](Self::cleaner) writes a file of 8 MiB beside the
/// database, `<path>-reserve`, unless the disk has no room for it. When a step that ends a claim or
/// removes rows finds the disk full, it makes this file smaller, and takes its room. After the next
/// cleaning, the store takes claims again as far as there are free pages in its file, even if the
/// disk stays full. Cleaning makes the file whole again when the disk has room for it.
///
/// Leave this file alone, and do not copy it with the database. A store over a pool of the
/// application ([`SqliteStore::new`]) has none. Set `max_page_count` on that pool instead, below
/// what the disk holds.
///
/// # Writers
///
/// SQLite has one writer at a time, and each record takes one `fsync` of the disk. The writes of a
/// process take turns in order; while another process writes, they try again every millisecond. The
/// disk thus limits this store: if an `fsync` takes some milliseconds, to some hundred first writes
/// a second. Replays only read, and do not wait.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::{IdempotencyLayer, SqliteStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # std::env::set_current_dir(std::env::temp_dir())?;
/// let store = SqliteStore::open("idempotency.db").await?;
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
/// [`StoreErrorKind::Full`]: crate::store::StoreErrorKind::Full
#[derive(Clone)]
pub struct SqliteStore {
    /// For all but records.
    pool: SqlitePool,
    /// For records: each commit of this pool waits for the disk.
    records: SqlitePool,
    place: Place,
    writer: Writer,
    table: Table,
    statements: Arc<Statements>,
    compression: Compression,
}

impl SqliteStore {
    /// Opens a file, or makes it if it does not exist.
    ///
    /// # Errors
    ///
    /// If the file can't be opened or is not a SQLite file.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A thread that sleeps in SQLite does not notice that its request has given up, and it
            // sleeps for up to a tenth of a second: `patiently` waits instead.
            .busy_timeout(Duration::ZERO)
            // The log starts over at 2 MiB, and is cut to what the reserve has room for.
            .pragma("wal_autocheckpoint", "512")
            .pragma("journal_size_limit", HALF.to_string());
        let reserve = Reserve::beside(path);
        let normal = options.clone().synchronous(SqliteSynchronous::Normal);
        let pool_of_claims = connect(CONNECTIONS, normal, &reserve).await?;
        let full = options.synchronous(SqliteSynchronous::Full);
        let pool_of_records = connect(1, full, &reserve).await?;
        Ok(Self::over(pool_of_claims, pool_of_records, reserve))
    }

    /// Uses a pool that the application already has, with its settings.
    ///
    /// Claims and records are then as durable as its `synchronous` says. Set the write-ahead log
    /// (`journal_mode(Wal)`), and a `busy_timeout` of zero, since the store waits by itself. For a
    /// database in memory, limit the pool to one connection, since each has a database of its own.
    /// Nothing is kept in reserve for a full disk: `max_page_count` is the setting for that.
    pub fn new(pool: SqlitePool) -> Self {
        Self::over(pool.clone(), pool, Reserve::none())
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
        let _turn = self.writer.turn().await;
        let migrate = || async {
            sqlx::raw_sql(self.statements.migrate.sql())
                .execute(&self.records)
                .await
        };
        let migrated = patiently(migrate).await;
        migrated.map(|_| ()).map_err(store_error)
    }

    /// Checks, when an application starts, that requests can use the store.
    ///
    /// The journal is the write-ahead log, `busy_timeout` is zero, no connection of the pool was left
    /// inside a transaction, the table has the right columns and the index on `expires`, and takes
    /// writes, and the file is where it was when it was opened and, as far as the system says, on no
    /// network.
    ///
    /// Changes nothing that is kept, and leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`Misconfigured`](crate::store::StoreErrorKind::Misconfigured) if something is set up wrongly;
    /// the error's
    /// [`source`](std::error::Error::source) says what, and what would be right. Any other kind if
    /// the database fails.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_idempotency::SqliteStore;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let path = ":memory:";
    /// let store = SqliteStore::open(path).await?;
    /// assert!(store.check().await.is_err());
    /// store.migrate().await?;
    /// store.check().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn check(&self) -> Result<(), StoreError> {
        self.place.must_be_local()?;
        check_pool(&self.pool).await?;
        check_pool(&self.records).await?;
        self.place.must_be_the_same()?;
        let _turn = self.writer.turn().await;
        check_table(&self.records, &self.statements).await
    }

    #[doc = include_str!("../docs/clean.md")]
    pub async fn clean(&self) -> Result<u64, StoreError> {
        sql::clean(self).await
    }

    #[doc = include_str!("../docs/cleaner.md")]
    pub fn cleaner(&self, pause: Duration) -> impl Future<Output = Infallible> + Send + use<> {
        sql::clean_every(self.clone(), pause)
    }

    fn over(pool: SqlitePool, records: SqlitePool, reserve: Reserve) -> Self {
        let table = Table::default();
        let statements = Arc::new(Statements::new(&table));
        let place = Place::new(pool.connect_options().get_filename());
        Self {
            place,
            pool,
            records,
            writer: Writer::new(reserve),
            table,
            statements,
            compression: Compression::default(),
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

/// Opens all connections of a pool: one that is opened later, when the path names another file,
/// would not see what the others do.
async fn connect(
    connections: u32,
    options: SqliteConnectOptions,
    reserve: &Reserve,
) -> Result<SqlitePool, StoreError> {
    let connect = || {
        SqlitePoolOptions::new()
            .min_connections(connections)
            .max_connections(connections)
            // A connection to a file does not die, so there is nothing to test or to make anew.
            .test_before_acquire(false)
            .idle_timeout(None)
            // SQLite opens the log with the first read only, by its name.
            .after_connect(|connection, _| {
                Box::pin(async move {
                    let read = connection.execute("SELECT count(*) FROM sqlite_schema");
                    read.await.map(drop)
                })
            })
            .max_lifetime(None)
            .connect_with(options.clone())
    };
    let mut pool = patiently(connect).await;
    for left in [HALF, 0] {
        if pool.as_ref().err().is_some_and(is_full) {
            reserve.use_up(left);
            pool = patiently(connect).await;
        }
    }
    pool.map_err(open_error)
}

/// The number of replays that are read at once, each on a thread of its own.
const CONNECTIONS: u32 = 4;

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;

    #[tokio::test]
    async fn a_record_waits_for_the_disk_and_a_claim_does_not() {
        // In memory, where the setting is the same and no file is left behind.
        let store = SqliteStore::open(":memory:").await.expect("a database");
        let synchronous = async |pool: &SqlitePool| {
            let row = sqlx::query("PRAGMA synchronous").fetch_one(pool).await;
            row.expect("an answer").get::<i64, _>(0)
        };
        // FULL and NORMAL.
        assert_eq!(synchronous(&store.records).await, 2);
        assert_eq!(synchronous(&store.pool).await, 1);
    }
}
