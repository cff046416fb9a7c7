//! Whether the store can do its work.

use std::fmt;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};

use super::super::{Begin, Claim, Fingerprint, Owner, RecordKey, Store};
use super::super::{StoreError, StoreErrorKind};
use super::PostgresStore;
use super::error::{is_in_failed_transaction, store_error};
use super::pool::Failed;
use super::statement::{Bound, Protocol, Value};

pub(super) async fn check(store: &PostgresStore) -> Result<(), StoreError> {
    match tokio::time::timeout(LIMIT, all(store)).await {
        Ok(checked) => checked,
        Err(_) => Err(StoreErrorKind::Timeout.into()),
    }
}

async fn all(store: &PostgresStore) -> Result<(), StoreError> {
    look_at_pool(store).await?;
    look(store).await?;
    take_steps(store).await?;
    if store.protocol == Protocol::Prepared {
        mix(store).await?;
    }
    Ok(())
}

/// Looks for connections of the application's pool that were left inside a transaction.
async fn look_at_pool(store: &PostgresStore) -> Result<(), StoreError> {
    let source = store.pool.source();
    let mut are_right = true;
    // All at once, or the same one would be looked at again.
    for mut taken in source.take_idle_of_pool() {
        // By the simple protocol, both are the same in a transaction that begins here.
        let began_before = "SELECT now() <> statement_timestamp()";
        let row = sqlx::raw_sql(began_before).fetch_one(taken.connection());
        match row.await.and_then(|row| row.try_get::<bool, _>(0)) {
            Ok(is_left) => are_right &= !is_left,
            Err(error) if is_in_failed_transaction(&error) => are_right = false,
            // It is dead, which the pool would have noticed before its next use.
            Err(_) => continue,
        }
        source.give_back(taken);
    }
    if are_right {
        return Ok(());
    }
    Err(misconfigured(
        "a connection of the pool is inside a transaction that somebody has begun and not ended; \
         begin transactions by the pool's begin(), which ends them, or call PostgresStore::new",
    ))
}

/// Looks at what is there.
async fn look(store: &PostgresStore) -> Result<(), StoreError> {
    let statement = Bound::Simple(store.statements.what_is_there.text());
    let row = store.pool.run(statement).await.map_err(of_failed)?;
    let found = row.map(|row| Found::read(&row)).transpose();
    let found = found.map_err(store_error)?.unwrap_or_default();
    let table = &store.table;
    let wrong = match found {
        Found { columns: None, .. } => {
            format!("there is no table {table}; call PostgresStore::migrate, or run its SQL")
        }
        Found {
            columns: Some(columns),
            ..
        } if columns != COLUMNS => format!(
            "the table {table} has the columns \"{columns}\" where it should have \"{COLUMNS}\""
        ),
        Found { has_key: false, .. } => format!("the table {table} has no primary key (key)"),
        Found {
            denied: Some(denied),
            ..
        } => format!("the role may not {denied} on the table {table}; grant it"),
        Found {
            is_read_only: true, ..
        } => {
            "the server takes no writes: it is a standby, or default_transaction_read_only is on; \
              connect to the primary"
                .to_owned()
        }
        _ => return Ok(()),
    };
    Err(misconfigured(wrong))
}

#[derive(Default)]
struct Found {
    columns: Option<String>,
    has_key: bool,
    denied: Option<String>,
    is_read_only: bool,
}

impl Found {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            columns: row.try_get(0)?,
            has_key: row.try_get(1)?,
            denied: row.try_get(2)?,
            is_read_only: row.try_get(3)?,
        })
    }
}

/// Takes the steps of a request whose handler fails, which leave nothing behind.
async fn take_steps(store: &PostgresStore) -> Result<(), StoreError> {
    let claim = Claim::new(Owner::new(), Fingerprint::from_bytes([0; 32]));
    let key = unused_key();
    let begun = store.begin(&key, &claim, LIMIT).await?;
    debug_assert!(matches!(begun, Begin::Started));
    let renewed = store.renew(&key, claim.owner(), LIMIT).await;
    let released = store.release(&key, claim.owner()).await;
    renewed.and(released).map(drop)
}

/// Runs prepared statements on two connections in turns, the second time while the other one is in
/// a transaction. A pooler that pools transactions moves them to another session of the server, in
/// which a statement is known only if the pooler sees to that.
async fn mix(store: &PostgresStore) -> Result<(), StoreError> {
    let _place = store.pool.place().await.map_err(of_failed)?;
    let Some(_other_place) = store.pool.place_at_once() else {
        return Ok(());
    };
    let source = store.pool.source();
    let mut one = source.take().await.map_err(store_error)?;
    let mut other = source.take().await.map_err(store_error)?;
    let mixed = async {
        for _ in 0..2 {
            find(store, one.connection()).await?;
            find(store, other.connection()).await?;
        }
        for _ in 0..2 {
            let mut transaction = other.connection().begin().await?;
            sqlx::raw_sql("SELECT").execute(&mut *transaction).await?;
            // A pooler with one session has none for this one now, which is no fault.
            match tokio::time::timeout(SOON, find(store, one.connection())).await {
                Ok(found) => found?,
                Err(_) => return Ok(false),
            }
            transaction.rollback().await?;
            std::mem::swap(&mut one, &mut other);
        }
        Ok(true)
    };
    if mixed.await.map_err(store_error)? {
        source.give_back(one);
        source.give_back(other);
    }
    Ok(())
}

async fn find(store: &PostgresStore, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let key = unused_key();
    let key = Value::Bytes(key.as_bytes());
    let statement = store.statements.find.bind(Protocol::Prepared, &[key]);
    statement.fetch_all(connection).await.map(drop)
}

/// A key that nobody else has.
fn unused_key() -> RecordKey {
    let mut key = [0; 32];
    key[..16].copy_from_slice(Owner::new().as_bytes());
    RecordKey::from_bytes(key)
}

fn of_failed(failed: Failed) -> StoreError {
    store_error(failed.error)
}

fn misconfigured(wrong: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Misconfigured, Wrong(wrong.into()))
}

/// What is set up wrongly, and what would be right.
#[derive(Debug)]
struct Wrong(String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

const COLUMNS: &str = "entry bytea, expires timestamp with time zone, key bytea";

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(10);

const SOON: Duration = Duration::from_secs(1);
