//! The steps of requests, and the one that removes what has ended.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::super::sql::{self, Clean, MAX_ROUNDS};
use super::super::wire::codec::{claim_prefix, encode_claim, encode_record};
use super::super::{
    Begin, Claim, Owner, Ownership, Record, RecordKey, Store, StoreError, StoreErrorKind,
    TransactionalStore,
};
use super::PostgresStore;
use super::error::{is_lost_race, is_not_run, refuses_writes, store_error};
use super::pool::Failed;
use super::statement::{Statement, Value};

impl Store for PostgresStore {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        let entry = encode_claim(claim);
        let values = [
            Value::Bytes(key.as_bytes()),
            Value::Bytes(&entry),
            Value::Count(micros(lease)),
        ];
        let statement = if claim.is_durable() {
            &self.statements.begin
        } else {
            &self.statements.begin_hurried
        };
        let mut may_reconnect = true;
        for _ in 0..MAX_ROUNDS {
            match self.run(statement, &values).await {
                Ok(Some(row)) => return sql::begun(row.try_get(0).map_err(store_error)?, claim),
                // Another request has claimed the key since this statement took its snapshot. The
                // next statement sees that claim.
                Ok(None) => {}
                Err(failed) if is_lost_race(&failed.error) => {}
                // The server was restarted since the connection was last used, or is another by
                // now. If it had claimed the key, the next statement finds that.
                Err(failed) if may_reconnect && failed.may_be_stale => may_reconnect = false,
                Err(failed) if refuses_writes(&failed.error) => {
                    return self.find(key, claim, failed.error).await;
                }
                Err(failed) => return Err(store_error(failed.error)),
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
        let entry = encode_record(record, self.compression);
        let values = [
            Value::Bytes(key.as_bytes()),
            Value::Bytes(&claim_prefix(owner)),
            Value::Bytes(&entry),
            Value::Count(micros(ttl)),
        ];
        let row = self.step(&self.statements.complete, &values).await?;
        Ok(sql::ownership(u64::from(row.is_some())))
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        let values = [
            Value::Bytes(key.as_bytes()),
            Value::Bytes(&claim_prefix(owner)),
            Value::Count(micros(lease)),
        ];
        let row = self.step(&self.statements.renew, &values).await?;
        Ok(sql::ownership(u64::from(row.is_some())))
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        let values = [
            Value::Bytes(key.as_bytes()),
            Value::Bytes(&claim_prefix(owner)),
        ];
        let row = self.step(&self.statements.release, &values).await?;
        Ok(sql::ownership(u64::from(row.is_some())))
    }
}

impl TransactionalStore for PostgresStore {
    type Connection<'c> = PgConnection;

    async fn complete_in(
        &self,
        connection: &mut Self::Connection<'_>,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        let entry = encode_record(record, self.compression);
        let values = [
            Value::Bytes(key.as_bytes()),
            Value::Bytes(&claim_prefix(owner)),
            Value::Bytes(&entry),
            Value::Count(micros(ttl)),
        ];
        // Once, since a statement that fails has ended the transaction.
        let statement = self.statements.complete.bind(self.protocol, &values);
        let rows = statement.fetch_all(connection).await.map_err(store_error)?;
        Ok(sql::ownership(rows.len() as u64))
    }
}

impl Clean for PostgresStore {
    const BATCH: u64 = 500;

    async fn clean_batch(&self) -> Result<u64, StoreError> {
        let batch = Value::Count(Self::BATCH as i64);
        let removed = self.step(&self.statements.clean, &[batch]).await?;
        let removed: i64 = match removed {
            Some(row) => row.try_get(0).map_err(store_error)?,
            None => 0,
        };
        Ok(removed.unsigned_abs())
    }
}

impl PostgresStore {
    async fn run(
        &self,
        statement: &Statement,
        values: &[Value<'_>],
    ) -> Result<Option<PgRow>, Failed> {
        self.pool.run(statement.bind(self.protocol, values)).await
    }

    /// Runs a step that may be run again, and so is after a lost race.
    async fn step(
        &self,
        statement: &Statement,
        values: &[Value<'_>],
    ) -> Result<Option<PgRow>, StoreError> {
        let mut may_reconnect = true;
        for _ in 0..MAX_ROUNDS {
            match self.run(statement, values).await {
                Ok(row) => return Ok(row),
                Err(failed) if is_lost_race(&failed.error) => {}
                Err(failed)
                    if may_reconnect && failed.may_be_stale && is_not_run(&failed.error) =>
                {
                    may_reconnect = false;
                }
                Err(failed) => return Err(store_error(failed.error)),
            }
        }
        Err(StoreErrorKind::Unavailable.into())
    }

    /// Looks for what is kept, at a server that takes no writes, and fails with this error if there
    /// is nothing.
    async fn find(
        &self,
        key: &RecordKey,
        claim: &Claim,
        error: sqlx::Error,
    ) -> Result<Begin, StoreError> {
        let key = Value::Bytes(key.as_bytes());
        match self.run(&self.statements.find, &[key]).await {
            Ok(Some(row)) => sql::begun(row.try_get(0).map_err(store_error)?, claim),
            Ok(None) | Err(_) => Err(store_error(error)),
        }
    }
}

fn micros(duration: Duration) -> i64 {
    sql::count(duration, Duration::from_micros(1))
}
