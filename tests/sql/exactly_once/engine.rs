//! The two databases, as far as they differ.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Database, Executor, Pool, Row};
use tower_idempotency::store::TransactionalStore;

/// A database of sqlx's, and the store that is in it.
pub(crate) trait Engine: Database {
    type Store: for<'c> TransactionalStore<Connection<'c> = Self::Connection>;

    /// What begins a transaction that will write.
    const BEGIN: &'static str;
    /// The type of a number that counts by itself.
    const COUNTER: &'static str;
    /// How often a handler pauses: one in so many times. Where there is only one writer, the others wait
    /// meanwhile.
    const PAUSES: u64;

    /// Makes connections for an application.
    fn pool(url: &str) -> Pool<Self>;

    /// Opens the store on connections of its own.
    fn store(url: &str) -> impl Future<Output = Self::Store> + Send;

    /// Opens the store on the connections of an application, if it is meant for that.
    fn sharing(pool: &Pool<Self>) -> Option<Self::Store>;

    /// Makes the store's table.
    fn migrate(store: &Self::Store) -> impl Future<Output = ()> + Send;

    /// Removes what has ended, again and again.
    fn cleaner(store: &Self::Store) -> impl Future<Output = Infallible> + Send + use<Self>;

    /// Runs SQL that answers with numbers.
    fn ask<const N: usize>(
        connection: &mut Self::Connection,
        sql: String,
    ) -> impl Future<Output = Result<Vec<[i64; N]>, sqlx::Error>> + Send;
}

#[cfg(feature = "postgres")]
impl Engine for sqlx::Postgres {
    type Store = tower_idempotency::PostgresStore;

    const BEGIN: &'static str = "BEGIN";
    const COUNTER: &'static str = "bigserial PRIMARY KEY";
    const PAUSES: u64 = 3;

    fn pool(url: &str) -> Pool<Self> {
        let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
        sqlx::postgres::PgPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(2))
            .connect_lazy_with(options.application_name(BANK))
    }

    async fn store(url: &str) -> Self::Store {
        Self::Store::connect_lazy(url).unwrap()
    }

    fn sharing(pool: &Pool<Self>) -> Option<Self::Store> {
        Some(Self::Store::sharing(pool.clone()))
    }

    async fn migrate(store: &Self::Store) {
        store.migrate().await.unwrap();
    }

    fn cleaner(store: &Self::Store) -> impl Future<Output = Infallible> + Send + use<> {
        store.cleaner(CLEANING)
    }

    async fn ask<const N: usize>(
        connection: &mut sqlx::PgConnection,
        sql: String,
    ) -> Result<Vec<[i64; N]>, sqlx::Error> {
        let rows = connection
            .fetch_all(sqlx::raw_sql(AssertSqlSafe(sql)))
            .await?;
        rows.iter().map(numbers).collect()
    }
}

#[cfg(feature = "sqlite")]
impl Engine for sqlx::Sqlite {
    type Store = tower_idempotency::SqliteStore;

    const BEGIN: &'static str = "BEGIN IMMEDIATE";
    const COUNTER: &'static str = "integer PRIMARY KEY";
    const PAUSES: u64 = 40;

    fn pool(url: &str) -> Pool<Self> {
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(path(url))
            .create_if_missing(true)
            .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
            .busy_timeout(Duration::from_secs(1));
        sqlx::sqlite::SqlitePoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(2))
            .connect_lazy_with(options)
    }

    async fn store(url: &str) -> Self::Store {
        let start = std::time::Instant::now();
        loop {
            match Self::Store::open(path(url)).await {
                Ok(store) => return store,
                // A process that stands still may have the file.
                Err(error) => assert!(start.elapsed() < support::PATIENCE, "{error:?}"),
            }
        }
    }

    fn sharing(_: &Pool<Self>) -> Option<Self::Store> {
        None
    }

    async fn migrate(store: &Self::Store) {
        store.migrate().await.unwrap();
    }

    fn cleaner(store: &Self::Store) -> impl Future<Output = Infallible> + Send + use<> {
        store.cleaner(CLEANING)
    }

    async fn ask<const N: usize>(
        connection: &mut sqlx::SqliteConnection,
        sql: String,
    ) -> Result<Vec<[i64; N]>, sqlx::Error> {
        let rows = connection
            .fetch_all(sqlx::raw_sql(AssertSqlSafe(sql)))
            .await?;
        rows.iter().map(numbers).collect()
    }
}

#[cfg(feature = "sqlite")]
fn path(url: &str) -> &str {
    url.trim_start_matches("sqlite:")
}

fn numbers<R, const N: usize>(row: &R) -> Result<[i64; N], sqlx::Error>
where
    R: Row,
    usize: sqlx::ColumnIndex<R>,
    for<'r> i64: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    let mut numbers = [0; N];
    for (n, number) in numbers.iter_mut().enumerate() {
        *number = row.try_get(n)?;
    }
    Ok(numbers)
}

const CLEANING: Duration = Duration::from_millis(300);

/// The name of the application's connections.
#[cfg(feature = "postgres")]
pub(crate) const BANK: &str = "bank";
