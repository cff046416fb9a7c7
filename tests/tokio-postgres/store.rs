//! The store.

use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Transaction};
use tower_idempotency::store::{
    Begin, Claim, Fingerprint, Owner, Ownership, Record, RecordKey, Store, StoreError,
    StoreErrorKind, TransactionalStore,
};

/// Keeps claims and records in a table of PostgreSQL.
///
/// Each step has a connection to itself: one that waits for a transaction would hold up whatever comes
/// behind it.
#[derive(Clone)]
pub(crate) struct TokioPostgresStore {
    config: Config,
    idle: Arc<Mutex<Vec<Client>>>,
    places: Arc<Semaphore>,
}

impl TokioPostgresStore {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            idle: Arc::default(),
            places: Arc::new(Semaphore::new(10)),
        }
    }

    pub(crate) async fn migrate(&self) -> Result<(), StoreError> {
        let client = connect(&self.config).await.map_err(store_error)?;
        client.batch_execute(TABLE).await.map_err(store_error)
    }

    /// Runs a statement that answers with one row at most. A connection that has failed, or whose
    /// step was given up half-way, is not used again.
    async fn run(
        &self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, StoreError> {
        let _place = self.places.acquire().await;
        let idle = self.idle.lock().unwrap().pop();
        let client = match idle {
            Some(client) => client,
            None => connect(&self.config).await.map_err(store_error)?,
        };
        let row = client.query_opt(sql, values).await.map_err(store_error)?;
        self.idle.lock().unwrap().push(client);
        Ok(row)
    }
}

impl Store for TokioPostgresStore {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        let (owner, fingerprint) = (claim.owner(), claim.fingerprint());
        let (key, owner) = (&key.as_bytes()[..], &owner.as_bytes()[..]);
        let fingerprint = &fingerprint.as_bytes()[..];
        let lease = micros(lease);
        // Without a row, somebody else has claimed the key since the statement began; the next one
        // finds that claim.
        for _ in 0..8 {
            let values: [&(dyn ToSql + Sync); 4] = [&key, &owner, &fingerprint, &lease];
            if let Some(row) = self.run(BEGIN, &values).await? {
                return begun(&row);
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
        let (key, owner) = (&key.as_bytes()[..], &owner.as_bytes()[..]);
        let (record, ttl) = (&record.as_bytes()[..], micros(ttl));
        let row = self.run(COMPLETE, &[&key, &owner, &record, &ttl]).await?;
        Ok(ownership(row.as_ref()))
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        let (key, owner) = (&key.as_bytes()[..], &owner.as_bytes()[..]);
        let row = self.run(RENEW, &[&key, &owner, &micros(lease)]).await?;
        Ok(ownership(row.as_ref()))
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        let (key, owner) = (&key.as_bytes()[..], &owner.as_bytes()[..]);
        let row = self.run(RELEASE, &[&key, &owner]).await?;
        Ok(ownership(row.as_ref()))
    }
}

impl TransactionalStore for TokioPostgresStore {
    // What the driver's `Client::transaction` returns. It borrows the client, hence the lifetime.
    type Connection<'c> = Transaction<'c>;

    async fn complete_in(
        &self,
        transaction: &mut Self::Connection<'_>,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        let (key, owner) = (&key.as_bytes()[..], &owner.as_bytes()[..]);
        let (record, ttl) = (&record.as_bytes()[..], micros(ttl));
        let completed = transaction
            .query_opt(COMPLETE, &[&key, &owner, &record, &ttl])
            .await;
        Ok(ownership(completed.map_err(store_error)?.as_ref()))
    }
}

/// Connects, and drives the connection in a task until the client is dropped.
pub(crate) async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // The client's next step reports how it ended.
        let _ = connection.await;
    });
    Ok(client)
}

/// Reads the address of a server. Of two hosts, one of them a parameter, the parameter counts.
pub(crate) fn config(url: &str) -> Config {
    let given = Config::from_str(url).unwrap();
    let mut config = Config::new();
    config.user(given.get_user().unwrap_or("postgres"));
    config.dbname(given.get_dbname().unwrap_or("postgres"));
    if let Some(password) = given.get_password() {
        config.password(password);
    }
    match given.get_hosts().last().unwrap() {
        tokio_postgres::config::Host::Tcp(host) => config.host(host),
        tokio_postgres::config::Host::Unix(path) => config.host_path(path),
    };
    if let Some(port) = given.get_ports().last() {
        config.port(*port);
    }
    config
}

fn begun(row: &Row) -> Result<Begin, StoreError> {
    let is_new: bool = row.try_get(0).map_err(store_error)?;
    let fingerprint: Option<&[u8]> = row.try_get(1).map_err(store_error)?;
    let record: Option<&[u8]> = row.try_get(2).map_err(store_error)?;
    match (is_new, record) {
        (true, _) => Ok(Begin::Started),
        (false, Some(record)) => Record::from_bytes(Bytes::copy_from_slice(record))
            .map(Begin::Completed)
            .map_err(|error| StoreError::new(StoreErrorKind::Corrupt, error)),
        (false, None) => fingerprint
            .and_then(|bytes| bytes.try_into().ok())
            .map(|bytes| Begin::InProgress(Fingerprint::from_bytes(bytes)))
            .ok_or_else(|| StoreErrorKind::Corrupt.into()),
    }
}

fn ownership(row: Option<&Row>) -> Ownership {
    match row {
        Some(_) => Ownership::Held,
        None => Ownership::Lost,
    }
}

fn store_error(error: tokio_postgres::Error) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, error)
}

fn micros(duration: Duration) -> i64 {
    // A hundred years, which no lease outlives.
    let longest = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    duration.min(longest).as_micros() as i64
}

const TABLE: &str = "
CREATE TABLE IF NOT EXISTS requests (
    key bytea PRIMARY KEY,
    owner bytea NOT NULL,
    fingerprint bytea,
    record bytea,
    expires timestamptz NOT NULL
)";

/// Answers with what is there, and whether it is new. Time is the statement's, since a transaction may
/// be old.
const BEGIN: &str = "
WITH found AS (
    SELECT false, fingerprint, record FROM requests
    WHERE key = $1 AND expires > statement_timestamp()
), claimed AS (
    INSERT INTO requests AS held (key, owner, fingerprint, expires)
    SELECT $1, $2, $3, statement_timestamp() + $4::bigint * interval '1 microsecond'
    WHERE NOT EXISTS (SELECT FROM found)
    ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, fingerprint = excluded.fingerprint,
        record = NULL, expires = excluded.expires
    WHERE held.expires <= statement_timestamp()
    RETURNING true, fingerprint, record
)
SELECT * FROM found UNION ALL SELECT * FROM claimed";

/// Answers with no row if a live claim of another or a live record is there.
const COMPLETE: &str = "
INSERT INTO requests AS held (key, owner, record, expires)
VALUES ($1, $2, $3, statement_timestamp() + $4::bigint * interval '1 microsecond')
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, record = excluded.record,
    expires = excluded.expires
WHERE held.expires <= statement_timestamp() OR held.owner = $2 AND held.record IS NULL
RETURNING true";

const RENEW: &str = "
UPDATE requests SET expires = statement_timestamp() + $3::bigint * interval '1 microsecond'
WHERE key = $1 AND owner = $2 AND record IS NULL AND expires > statement_timestamp()
RETURNING true";

const RELEASE: &str = "
DELETE FROM requests
WHERE key = $1 AND owner = $2 AND record IS NULL AND expires > statement_timestamp()
RETURNING true";
