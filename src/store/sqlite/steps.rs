//! The steps of requests, and the one that removes what has ended.

use std::time::Duration;

use sqlx::{Row, SqliteConnection};

use super::super::sql::{self, Clean, MAX_ROUNDS};
use super::super::wire::codec::{claim_prefix, encode_claim, encode_record};
use super::super::{
    Begin, Claim, Owner, Ownership, Record, RecordKey, Store, StoreError, StoreErrorKind,
    TransactionalStore,
};
use super::SqliteStore;
use super::error::store_error;
use super::patience::patiently;
use super::writer::Step;

impl Store for SqliteStore {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        let entry = encode_claim(claim);
        let claimed = || {
            let query = self.statements.claim.query();
            query
                .bind(&key.as_bytes()[..])
                .bind(&entry[..])
                .bind(millis(lease))
        };
        for _ in 0..MAX_ROUNDS {
            // Read first, since a statement that may write waits for the writer.
            if let Some(found) = self.read(key).await? {
                return sql::begun(found, claim);
            }
            if self.writer.write(&self.pool, Step::Claim, claimed).await? > 0 {
                return Ok(Begin::Started);
            }
            // Another request has claimed the key since it was read.
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
                .bind(millis(ttl))
        };
        self.writer
            .write(&self.records, Step::Complete(entry.len()), completed)
            .await
            .map(sql::ownership)
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
                .bind(millis(lease))
        };
        self.writer
            .write(&self.pool, Step::Hold, renewed)
            .await
            .map(sql::ownership)
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        let prefix = claim_prefix(owner);
        let released = || {
            let query = self.statements.release.query();
            query.bind(&key.as_bytes()[..]).bind(&prefix[..])
        };
        self.writer
            .write(&self.pool, Step::Hold, released)
            .await
            .map(sql::ownership)
    }
}

impl TransactionalStore for SqliteStore {
    type Connection<'c> = SqliteConnection;

    async fn complete_in(
        &self,
        connection: &mut Self::Connection<'_>,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        let prefix = claim_prefix(owner);
        let entry = encode_record(record, self.compression);
        let query = self.statements.complete.query();
        let query = query
            .bind(&key.as_bytes()[..])
            .bind(&prefix[..])
            .bind(&entry[..])
            .bind(millis(ttl));
        // Not in this process's turn to write: whoever has begun to write is the only one.
        let completed = query.execute(connection).await.map_err(store_error)?;
        Ok(sql::ownership(completed.rows_affected()))
    }
}

impl Clean for SqliteStore {
    const BATCH: u64 = 100;

    async fn clean_batch(&self) -> Result<u64, StoreError> {
        self.place.must_be_the_same()?;
        let clean = || self.statements.clean.query().bind(Self::BATCH as i64);
        let removed = self.writer.write(&self.pool, Step::Remove, clean).await?;
        if removed < Self::BATCH {
            self.writer.restore_reserve().await;
        }
        Ok(removed)
    }
}

impl SqliteStore {
    /// Reads the entry under a key, unless it has ended.
    async fn read(&self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        let read = || {
            let query = self.statements.read.query().bind(&key.as_bytes()[..]);
            query.fetch_optional(&self.pool)
        };
        match patiently(read).await.map_err(store_error)? {
            Some(row) => row.try_get(0).map(Some).map_err(store_error),
            None => Ok(None),
        }
    }
}

fn millis(duration: Duration) -> i64 {
    sql::count(duration, Duration::from_millis(1))
}
