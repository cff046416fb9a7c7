//! The store in a Redis or Valkey server.

mod connection;
mod error;
mod reconnecting;
mod script;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Cmd, Value};

use self::connection::{Connection, Given};
use self::error::{store_error, unexpected_reply};
use self::reconnecting::Reconnecting;
use self::script::Script;
use super::wire::codec::{self, Entry};
use super::wire::compression::Compression;
use super::{Begin, Claim, Owner, Ownership, Record, RecordKey, Store, StoreError, StoreErrorKind};

/// A [`Store`] in a Redis (7.0 or newer) or Valkey server, shared by all processes that use it.
///
/// A claim and a replay each take one round trip to the server, a first write two. Each record is
/// one key, so that a Redis Cluster needs no step over several nodes. All time is the server's.
///
/// # Connection
///
/// [`RedisStore::connect`] makes a connection of its own to one server, which all requests share.
/// When it breaks, or when nothing has come back on it for a second, it is made anew in the
/// background; meanwhile the store fails at once with [`StoreErrorKind::Unavailable`], and the layer
/// runs requests unprotected. No request waits for a reconnect. Protection is back about a tenth of
/// a second after the server.
///
/// [`RedisStore::new`] takes a connection that the application already has, also one to a Redis
/// Cluster. For one by TLS (`rediss://`), turn on a TLS feature of the crate `redis`, such as
/// `tokio-rustls-comp`.
///
/// # What an operator must set
///
/// - `maxmemory-policy noeviction`, on an instance of its own if another one evicts: an evicted
///   record is a write that runs again. At `maxmemory` the store then refuses new claims
///   ([`StoreErrorKind::Full`]), and first requests run unprotected; what is kept is still replayed,
///   and claims already made still complete.
/// - Persistence, if a restart must not forget. With `appendonly yes` and the default
///   `appendfsync everysec`, a crash of the server loses the records of about the last second; with
///   snapshots alone, those since the last one; with neither, all.
/// - Replicas, if the loss of a machine must not forget. Replication is asynchronous: a failover
///   loses what the new primary had not received yet, usually some milliseconds;
///   `min-replicas-to-write 1` bounds that for a primary that is cut off from its replicas.
/// - An ACL that lets the application use `SET`, `GET`, `GETRANGE`, `PEXPIRE`, `DEL`, `EVAL` and `EVALSHA`
///   on its keys.
///
/// A lost record means that a retry runs again, as it would without the layer. A lost claim means
/// that a retry that comes while the first request still runs is not refused but runs too. Nothing
/// else is lost: a response never goes to another request.
///
/// # Examples
///
/// ```no_run
/// use tower_idempotency::{IdempotencyLayer, RedisStore};
///
/// # async fn run() -> Result<(), tower_idempotency::StoreError> {
/// let store = RedisStore::connect("redis://127.0.0.1/").await?.key_prefix("vms:");
/// let layer = IdempotencyLayer::new(store);
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisStore {
    connection: Arc<dyn Connection>,
    key_prefix: Arc<str>,
    compression: Compression,
}

impl RedisStore {
    /// Connects to a server: `redis://[user:password@]host[:port][/database]`, or `unix:///path`.
    ///
    /// # Errors
    ///
    /// If the address is none, or the server can't be reached within a second or refuses the
    /// connection. An application that must start without its server calls
    /// [`RedisStore::connect_lazy`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let connection = Reconnecting::to(url).map_err(store_error)?;
        connection.connect().await.map_err(store_error)?;
        Ok(Self::over(connection))
    }

    /// Takes a server's address, and connects in the background.
    ///
    /// Until there is a connection, requests run unprotected.
    ///
    /// # Errors
    ///
    /// If the address is none.
    pub fn connect_lazy(url: &str) -> Result<Self, StoreError> {
        let connection = Reconnecting::to(url).map_err(store_error)?;
        connection.start();
        Ok(Self::over(connection))
    }

    /// Uses a connection that the application has: a multiplexed connection, a connection manager,
    /// or a cluster connection of the crate `redis`.
    ///
    /// How it reconnects is up to its own settings. For a
    /// [`ConnectionManager`](https://docs.rs/redis/latest/redis/aio/struct.ConnectionManager.html),
    /// set `number_of_retries` to 0: by default requests wait for its retries, until the layer's
    /// `store_timeout`. Cluster connections follow moved slots and failovers by themselves.
    pub fn new<C>(connection: C) -> Self
    where
        C: ConnectionLike + Clone + Send + Sync + 'static,
    {
        Self::over(Given(connection))
    }

    /// Sets what the names of all keys start with. Default: `idempotency:`.
    ///
    /// The rest is the [`RecordKey`] as 64 hexadecimal digits. On a cluster, leave braces out of
    /// the prefix: what stands in them would put all keys into one slot.
    #[must_use]
    pub fn key_prefix(mut self, key_prefix: impl Into<String>) -> Self {
        self.key_prefix = key_prefix.into().into();
        self
    }

    #[doc = include_str!("../docs/compress_over.md")]
    #[cfg(feature = "zstd")]
    #[must_use]
    pub fn compress_over(mut self, bytes: usize) -> Self {
        self.compression = Compression::over(bytes);
        self
    }

    fn over(connection: impl Connection + 'static) -> Self {
        Self {
            connection: Arc::new(connection),
            key_prefix: "idempotency:".into(),
            compression: Compression::default(),
        }
    }

    fn name(&self, key: &RecordKey) -> Vec<u8> {
        let prefix = self.key_prefix.as_bytes();
        let mut name = vec![0; prefix.len() + 2 * key.as_bytes().len()];
        let (start, digits) = name.split_at_mut(prefix.len());
        start.copy_from_slice(prefix);
        for (pair, byte) in digits.chunks_exact_mut(2).zip(key.as_bytes()) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        name
    }

    /// Looks at what is under a key.
    async fn find(&self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        let mut command = Cmd::new();
        command.arg("GET").arg(self.name(key));
        match self.connection.ask(&command).await.map_err(store_error)? {
            Value::Nil => Ok(None),
            Value::BulkString(found) => Ok(Some(found)),
            _ => Err(unexpected_reply()),
        }
    }

    /// Runs one of the steps that an owner takes.
    async fn step(
        &self,
        script: &Script,
        key: &RecordKey,
        owner: Owner,
        arguments: &[&[u8]],
    ) -> Result<Ownership, StoreError> {
        let prefix = codec::claim_prefix(owner);
        let arguments = [&[&prefix[..]], arguments].concat();
        let reply = script
            .run(&*self.connection, &self.name(key), &arguments)
            .await;
        match reply.map_err(store_error)? {
            Value::Int(1) => Ok(Ownership::Held),
            Value::Int(0) => Ok(Ownership::Lost),
            _ => Err(unexpected_reply()),
        }
    }
}

impl fmt::Debug for RedisStore {
    /// Leaves the connection out: its address may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("key_prefix", &self.key_prefix)
            .finish_non_exhaustive()
    }
}

impl Store for RedisStore {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        let name = self.name(key);
        let mut command = Cmd::with_capacity(7, name.len() + codec::CLAIM_LEN + 32);
        command
            .arg("SET")
            .arg(name)
            .arg(&codec::encode_claim(claim)[..])
            .arg("NX")
            .arg("GET")
            .arg("PX")
            .arg(millis(lease));
        let found = match self.connection.ask(&command).await.map_err(store_error) {
            Ok(Value::Nil) => return Ok(Begin::Started),
            Ok(Value::BulkString(found)) => found,
            Ok(_) => return Err(unexpected_reply()),
            Err(error) if error.kind() == StoreErrorKind::Full => {
                // A full server refuses to set before it looks whether there is anything to be set.
                self.find(key).await?.ok_or(error)?
            }
            Err(error) => return Err(error),
        };
        match Entry::decode(&found.into())? {
            // A connection that repeats commands by itself finds what its first try has set.
            Entry::Claim(found) if found.owner() == claim.owner() => Ok(Begin::Started),
            Entry::Claim(found) => Ok(Begin::InProgress(found.fingerprint())),
            Entry::Record(record) => Ok(Begin::Completed(record)),
        }
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        let record = codec::encode_record(record, self.compression);
        let ttl = millis(ttl).to_string();
        let arguments = [&record[..], ttl.as_bytes()];
        self.step(&script::COMPLETE, key, owner, &arguments).await
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        let lease = millis(lease).to_string();
        let arguments = [lease.as_bytes()];
        self.step(&script::RENEW, key, owner, &arguments).await
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        self.step(&script::RELEASE, key, owner, &[]).await
    }
}

/// Rounds up to what the server counts in, and down to what it can count.
fn millis(duration: Duration) -> u64 {
    let millis = duration.as_nanos().div_ceil(1_000_000).max(1);
    u64::try_from(millis).unwrap_or(u64::MAX).min(LONGEST)
}

/// A thousand years: far below where the server's clock would overflow.
const LONGEST: u64 = 1000 * 365 * 24 * 60 * 60 * 1000;

const DIGITS: &[u8; 16] = b"0123456789abcdef";
