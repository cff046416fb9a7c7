//! What an application asks of a store when it starts.

use sqlx::{
    Column, Connection, Executor, SqlSafeStr, SqliteConnection, SqlitePool, Statement as _,
    TypeInfo,
};

use super::super::{StoreError, StoreErrorKind};
use super::error::{is_refused, open_error, store_error};
use super::patience::patiently;
use super::statements::Statements;

/// Checks how the connections of a pool are set, and in what state they were left.
pub(super) async fn check_pool(pool: &SqlitePool) -> Result<(), StoreError> {
    // All at once, or the same one would be looked at again.
    let mut connections: Vec<_> = std::iter::from_fn(|| pool.try_acquire()).collect();
    if connections.is_empty() {
        let acquire = || pool.acquire();
        connections.push(patiently(acquire).await.map_err(open_error)?);
    }
    for connection in &mut connections {
        check_connection(connection).await?;
    }
    Ok(())
}

async fn check_connection(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    // What the store writes in a transaction of somebody else is seen by nobody, and may be lost.
    let transaction = connection.begin_with("BEGIN").await;
    let transaction = transaction.map_err(begin_error)?;
    transaction.rollback().await.map_err(store_error)?;
    let mode = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection);
    let mode: String = mode.await.map_err(store_error)?;
    // A database in memory has no log.
    if !matches!(&mode[..], "wal" | "memory") {
        let why = format!("the journal mode is {mode}; set it to WAL by journal_mode(Wal)");
        return Err(wrong(why));
    }
    let wait = sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(&mut *connection);
    let wait: i64 = wait.await.map_err(store_error)?;
    if wait != 0 {
        let why = format!(
            "busy_timeout is {wait} ms; set it to zero, since the store waits by itself, and a \
             thread that sleeps in SQLite does not notice that its request has given up"
        );
        return Err(wrong(why));
    }
    Ok(())
}

/// Maps an error of BEGIN, which can only be refused inside a transaction.
fn begin_error(error: sqlx::Error) -> StoreError {
    if !is_refused(&error) {
        return store_error(error);
    }
    wrong(
        "a connection of the pool is inside a transaction that somebody has begun and not ended; \
         begin transactions by the pool's begin(), which ends them",
    )
}

/// Checks the table's columns and its index, and that it takes writes.
pub(super) async fn check_table(
    pool: &SqlitePool,
    statements: &Statements,
) -> Result<(), StoreError> {
    let prepare = || async { pool.prepare(statements.columns.sql().into_sql_str()).await };
    let prepared = match patiently(prepare).await {
        Ok(prepared) => prepared,
        Err(error) if is_refused(&error) => {
            let why = format!("{error}; make the table by migrate(), or by the SQL of its docs");
            return Err(wrong(why));
        }
        Err(error) => return Err(store_error(error)),
    };
    for (column, of) in prepared.columns().iter().zip(["BLOB", "INTEGER", "BLOB"]) {
        let (name, found) = (column.name(), column.type_info().name());
        if found != of {
            let why = format!("the column {name} is of type {found}, but must be of type {of}");
            return Err(wrong(why));
        }
    }
    // Both in one transaction, so that nothing is left behind, whatever happens.
    let begin = || pool.begin_with("BEGIN IMMEDIATE");
    let mut transaction = patiently(begin).await.map_err(begin_error)?;
    let claim = statements.claim.query().bind(NO_KEY).bind(NO_KEY).bind(0);
    match claim.execute(&mut *transaction).await {
        Err(error) if is_refused(&error) => {
            let why = format!("{error}; make the table as the SQL of the store's docs does");
            return Err(wrong(why));
        }
        claimed => claimed.map_err(store_error)?,
    };
    let remove = statements.remove.query().bind(NO_KEY);
    let removed = remove.execute(&mut *transaction).await;
    removed.map_err(store_error)?;
    let index = statements.index.query().fetch_optional(&mut *transaction);
    let index = index.await.map_err(store_error)?;
    transaction.commit().await.map_err(store_error)?;
    if index.is_none() {
        return Err(wrong(
            "the table has no index on expires, so cleaning would read all of it each time; make the \
             index by migrate(), or by the SQL of the store's docs",
        ));
    }
    Ok(())
}

fn wrong(why: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Misconfigured, why.into())
}

/// A key that no request has.
const NO_KEY: &[u8] = &[];
