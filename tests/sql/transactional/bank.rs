//! A database of a test's own with payments in it, beside the store's table.

use std::ops::DerefMut;

use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{AssertSqlSafe, Executor, PgConnection, PgPool, SqliteConnection, SqlitePool};
use sqlx::{Postgres, Row, Sqlite, Transaction};
use tower_idempotency::store::TransactionalStore;
use tower_idempotency::{PostgresStore, SqliteStore};

use crate::postgres::database::Database;
use crate::sqlite::file::File;

/// What the cases need of a database.
pub(crate) trait Bank: Send + Sync + Sized + 'static {
    type Store: for<'c> TransactionalStore<Connection<'c> = Self::Connection> + Clone;
    type Connection: Send + 'static;
    type Tx: DerefMut<Target = Self::Connection> + Send + 'static;

    /// Makes the database, or says that the test is left out.
    fn open(test: &str) -> impl Future<Output = Option<Self>> + Send;

    fn store(&self) -> &Self::Store;

    /// Begins a transaction as a handler does that is to write.
    fn begin(&self) -> impl Future<Output = Result<Self::Tx, sqlx::Error>> + Send;

    fn run(
        connection: &mut Self::Connection,
        sql: &str,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    fn commit(tx: Self::Tx) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Counts what a query selects, outside of all transactions.
    fn count(&self, sql: &str) -> impl Future<Output = i64> + Send;

    /// Ends what the cases have left.
    fn close(self) -> impl Future<Output = ()> + Send;

    /// Makes a payment under a key.
    fn pay(
        connection: &mut Self::Connection,
        key: &str,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send {
        let sql = format!("INSERT INTO payments (key) VALUES ('{key}')");
        async move { Self::run(connection, &sql).await }
    }

    /// Lets the commit of a transaction be refused.
    fn break_commit(
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send {
        Self::run(connection, "INSERT INTO refunds (payment) VALUES (-1)")
    }

    /// Counts the payments that were committed.
    fn payments(&self) -> impl Future<Output = i64> + Send {
        self.count("SELECT count(*) FROM payments")
    }

    /// Counts claims and records.
    fn entries(&self) -> impl Future<Output = i64> + Send {
        self.count("SELECT count(*) FROM idempotency")
    }

    /// Lets all claims and records end.
    fn expire(&self) -> impl Future<Output = i64> + Send;
}

pub(crate) struct PostgresBank {
    database: Database,
    pool: PgPool,
    store: PostgresStore,
}

impl Bank for PostgresBank {
    type Store = PostgresStore;
    type Connection = PgConnection;
    type Tx = Transaction<'static, Postgres>;

    async fn open(test: &str) -> Option<Self> {
        let database = Database::of(test).await?;
        let pool = PgPool::connect(database.url()).await.unwrap();
        let tables = TABLES.replace("ID", "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY");
        pool.execute(sqlx::raw_sql(AssertSqlSafe(tables)))
            .await
            .unwrap();
        let store = database.store().await;
        Some(Self {
            database,
            pool,
            store,
        })
    }

    fn store(&self) -> &PostgresStore {
        &self.store
    }

    async fn begin(&self) -> Result<Self::Tx, sqlx::Error> {
        self.pool.begin().await
    }

    async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        connection.execute(sql).await.map(drop)
    }

    async fn commit(tx: Self::Tx) -> Result<(), sqlx::Error> {
        tx.commit().await
    }

    async fn count(&self, sql: &str) -> i64 {
        let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
        query.fetch_one(&self.pool).await.unwrap().get(0)
    }

    async fn expire(&self) -> i64 {
        self.count(
            "WITH ended AS (UPDATE idempotency SET expires = now() RETURNING true)
             SELECT count(*) FROM ended",
        )
        .await
    }

    async fn close(self) {
        self.pool.close().await;
        self.database.remove().await;
    }
}

pub(crate) struct SqliteBank {
    _file: File,
    pool: SqlitePool,
    store: SqliteStore,
}

impl Bank for SqliteBank {
    type Store = SqliteStore;
    type Connection = SqliteConnection;
    type Tx = Transaction<'static, Sqlite>;

    async fn open(_test: &str) -> Option<Self> {
        let file = File::new();
        let store = file.store().await;
        let pool = SqlitePoolOptions::new().connect(&file.url()).await.unwrap();
        let tables = TABLES.replace("ID", "INTEGER PRIMARY KEY");
        pool.execute(sqlx::raw_sql(AssertSqlSafe(tables)))
            .await
            .unwrap();
        Some(Self {
            _file: file,
            pool,
            store,
        })
    }

    fn store(&self) -> &SqliteStore {
        &self.store
    }

    async fn begin(&self) -> Result<Self::Tx, sqlx::Error> {
        self.pool.begin_with("BEGIN IMMEDIATE").await
    }

    async fn run(connection: &mut SqliteConnection, sql: &str) -> Result<(), sqlx::Error> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        connection.execute(sql).await.map(drop)
    }

    async fn commit(tx: Self::Tx) -> Result<(), sqlx::Error> {
        tx.commit().await
    }

    async fn count(&self, sql: &str) -> i64 {
        let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
        query.fetch_one(&self.pool).await.unwrap().get(0)
    }

    async fn expire(&self) -> i64 {
        let ended = sqlx::query("UPDATE idempotency SET expires = 1")
            .execute(&self.pool)
            .await;
        ended.unwrap().rows_affected() as i64
    }

    async fn close(self) {
        self.pool.close().await;
    }
}

const TABLES: &str = "
CREATE TABLE payments (id ID, key text NOT NULL);
CREATE TABLE refunds (
    payment bigint NOT NULL REFERENCES payments (id) DEFERRABLE INITIALLY DEFERRED
);";
