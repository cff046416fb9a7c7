//! The two databases that the bank can be in.

use std::future::Future;

use sqlx::Database;
use tower_idempotency::SqliteStore;
use tower_idempotency::store::TransactionalStore;

use crate::Transfer;

/// A database that a bank can be in, and what the bank asks it.
pub(crate) trait Bank: Database {
    /// The store in it.
    type Store: for<'c> TransactionalStore<Connection<'c> = Self::Connection>;

    /// What begins a transaction that will write.
    const BEGIN: &'static str;

    /// Makes the tables, unless they are there.
    fn migrate(connection: &mut Self::Connection) -> impl Answer<()>;

    /// Changes a balance, and returns it, unless there is no such account.
    fn change(
        connection: &mut Self::Connection,
        account: &str,
        by: i64,
    ) -> impl Answer<Option<i64>>;

    /// Notes a transfer, and returns its number.
    fn note(connection: &mut Self::Connection, transfer: &Transfer) -> impl Answer<i64>;

    /// Returns what is in each account.
    fn balances(connection: &mut Self::Connection) -> impl Answer<Vec<(String, i64)>>;
}

pub(crate) trait Answer<T>: Future<Output = Result<T, sqlx::Error>> + Send {}

impl<T, F: Future<Output = Result<T, sqlx::Error>> + Send> Answer<T> for F {}

/// Both databases understand the same SQL, but for how a transaction begins and a number counts up.
macro_rules! bank {
    ($database:ty, $store:ty, $begin:literal, $counter:literal) => {
        impl Bank for $database {
            type Store = $store;

            const BEGIN: &'static str = $begin;

            async fn migrate(connection: &mut Self::Connection) -> Result<(), sqlx::Error> {
                let sql = concat!(
                    "CREATE TABLE IF NOT EXISTS accounts
                        (name text PRIMARY KEY, balance bigint NOT NULL);
                    INSERT INTO accounts VALUES ('alice', 1000), ('bob', 1000), ('carol', 0)
                        ON CONFLICT DO NOTHING;
                    CREATE TABLE IF NOT EXISTS transfers (id ",
                    $counter,
                    ", payer text NOT NULL, payee text NOT NULL, amount bigint NOT NULL)"
                );
                sqlx::raw_sql(sql).execute(connection).await?;
                Ok(())
            }

            async fn change(
                connection: &mut Self::Connection,
                account: &str,
                by: i64,
            ) -> Result<Option<i64>, sqlx::Error> {
                let sql = "UPDATE accounts SET balance = balance + $1 WHERE name = $2
                    RETURNING balance";
                let changed = sqlx::query_scalar(sql).bind(by).bind(account);
                changed.fetch_optional(connection).await
            }

            async fn note(
                connection: &mut Self::Connection,
                transfer: &Transfer,
            ) -> Result<i64, sqlx::Error> {
                let sql = "INSERT INTO transfers (payer, payee, amount) VALUES ($1, $2, $3)
                    RETURNING id";
                let Transfer { from, to, amount } = transfer;
                let noted = sqlx::query_scalar(sql).bind(from).bind(to).bind(amount);
                noted.fetch_one(connection).await
            }

            async fn balances(
                connection: &mut Self::Connection,
            ) -> Result<Vec<(String, i64)>, sqlx::Error> {
                let balances = sqlx::query_as("SELECT name, balance FROM accounts ORDER BY name");
                balances.fetch_all(connection).await
            }
        }
    };
}

// `IMMEDIATE`, since SQLite refuses to write in a transaction that has read before somebody else wrote.
bank!(
    sqlx::Sqlite,
    SqliteStore,
    "BEGIN IMMEDIATE",
    "integer PRIMARY KEY"
);
#[cfg(feature = "postgres")]
bank!(
    sqlx::Postgres,
    tower_idempotency::PostgresStore,
    "BEGIN",
    "bigserial PRIMARY KEY"
);
