//! The store in a Redis or Valkey server.

mod address;
mod check;
mod connection;
mod connector;
mod error;
mod reconnecting;
mod script;
mod sentinel;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Cmd, Value};

use self::address::{Address, Server};
use self::connection::{Connection, Given};
use self::error::{is_refusal, store_error, unexpected_reply};
use self::reconnecting::Reconnecting;
use self::script::Script;
use self::sentinel::Sentinels;
use super::wire::codec::{self, Entry};
use super::wire::compression::Compression;
use super::{Begin, Claim, Owner, Ownership, Record, RecordKey, Store, StoreError};

/// A [`Store`] in a Redis (7.0 or newer) or Valkey server, shared by all processes that use it.
///
/// A claim and a replay take one round trip to the server each, and a first write takes two. Each
/// record is one key, so on a Redis Cluster no step involves several nodes. All time is the
/// server's.
///
/// # Connection
///
/// [`RedisStore::connect`] makes one connection to one server, which all requests share. When it
/// breaks, or when nothing has come back on it for a second, the store reconnects in the
/// background. Until then it fails at once with
/// [`StoreErrorKind::Unavailable`](super::StoreErrorKind::Unavailable), and the layer runs requests
/// unprotected. No request waits for a reconnect. Protection is back about a tenth of a
/// second after the server. The store speaks version 3 of the protocol, and version 2 to a server or
/// proxy that does not know `HELLO`, or if the URL says `?protocol=resp2`. With version 2 it learns
/// of a broken connection from the next request, which then runs unprotected.
///
/// [`RedisStore::connect_sentinel`] follows the master that Redis Sentinel names.
///
/// [`RedisStore::new`] uses a connection that the application already has, which may lead to a
/// Redis Cluster. It must be the store's alone in one respect: inside a `MULTI` that somebody else
/// has sent on it, each step fails, until there is an `EXEC` or `DISCARD`.
///
/// For TLS (`rediss://`), turn on a TLS feature of the crate `redis`, such as `tokio-rustls-comp`, and
/// with it one provider of cryptography of the crate `rustls`, such as its feature `ring`: without
/// one, `rustls` panics. What the system trusts is trusted, or what `SSL_CERT_FILE` names.
///
/// [`RedisStore::check`] says at the start of an application whether its server is fit.
///
/// # A server that refuses writes
///
/// A server at `maxmemory`, a replica, one whose replicas or disk are missing, or one that denies
/// the user a write may still read. Then kept records are replayed, and duplicates of running
/// requests are refused with 409. What is new runs unprotected. If another server may take the
/// writes by now (`READONLY`, `NOREPLICAS`), the store makes a new connection meanwhile.
///
/// # What an operator must set
///
/// - `maxmemory-policy noeviction`, because an evicted record is a write that runs again. If the
///   server must evict for others, give the store an instance of its own. At `maxmemory` the store
///   refuses new claims ([`StoreErrorKind::Full`](super::StoreErrorKind::Full)), and claims already
///   made still complete.
/// - Persistence, if records must survive a restart. With `appendonly yes` and the default
///   `appendfsync everysec`, a crash of the server loses the records of about the last second. With
///   snapshots alone, it loses those since the last snapshot; with neither, all.
/// - Replicas, if records must survive the loss of a machine. Replication is asynchronous: a
///   failover loses what the new primary had not received yet, usually some milliseconds.
///   `min-replicas-to-write 1` bounds the loss if a primary is cut off from its replicas.
/// - One primary for each key. Active-active replication (such as Redis Enterprise's CRDT
///   databases) is not supported: two sites take the same claim at the same time, both handlers
///   run, and one record replaces the other when the sites meet.
/// - An ACL that allows `SET`, `GET`, `GETRANGE`, `PEXPIRE`, `DEL`, `EVAL` and `EVALSHA` on the
///   store's keys; `SELECT` if the URL names a database other than 0; `INFO` for
///   [`RedisStore::check`] to read the settings; and `ROLE` with sentinels. `HELLO` and `AUTH` need
///   no permission. `CLIENT SETINFO` is sent once for each connection, and it does not matter whether
///   it is allowed.
/// - A clock that is slewed, not set. All leases and ttls are counted on the server's clock. A step
///   forward ends what has less time left than the step: claims of running handlers are free, and
///   retries of kept writes run again. A step back prolongs everything by the step: the key of a
///   process that has died answers 409 for that much longer than a lease.
///
/// After the loss of a record, a retry runs again, as it would without the layer. After the loss of
/// a claim, a retry that comes while the first request still runs is not refused, but runs too.
/// Nothing worse can happen: a response never goes to another request.
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
    /// - [`StoreErrorKind::Misconfigured`](super::StoreErrorKind::Misconfigured): the URL is not
    ///   valid, or the server refuses the user, the password or the database.
    /// - Any other kind: the server can't be reached within a second.
    ///
    /// An application that must start without its server calls [`RedisStore::connect_lazy`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::connected(Self::server(url)?).await
    }

    /// Connects to a server in the background.
    ///
    /// Until there is a connection, requests run unprotected.
    ///
    /// # Errors
    ///
    /// If the URL is not valid.
    pub fn connect_lazy(url: &str) -> Result<Self, StoreError> {
        let connection = Self::server(url)?;
        connection.start();
        Ok(Self::over(connection))
    }

    /// Connects to the master that Redis Sentinel names, and follows a promotion.
    ///
    /// `sentinels` are URLs of some or all sentinels, with a password if they ask for one. `master`
    /// is the URL of the master with its name in place of a host, and without a port:
    /// `redis://user:password@mymaster/2`. Each is spoken to by TLS if its own URL starts with
    /// `rediss://`; the master's certificate must then have the name or address that the sentinels
    /// give (names by their `resolve-hostnames` and `announce-hostnames`).
    ///
    /// The sentinels are asked when the connection breaks or hangs, and when the server refuses
    /// writes as a replica does. From the failure of the master until the sentinels have promoted
    /// another, which takes a little more than their `down-after-milliseconds`, requests run
    /// unprotected. What the new master had not received is lost, and its retries run again.
    ///
    /// # Errors
    ///
    /// - [`StoreErrorKind::Misconfigured`](super::StoreErrorKind::Misconfigured): a URL is not
    ///   valid, there is no sentinel, none knows the name, or one of the servers refuses the user or
    ///   the password.
    /// - Any other kind: no sentinel can be reached, or the master can't.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use tower_idempotency::RedisStore;
    /// # async fn run() -> Result<(), tower_idempotency::StoreError> {
    /// let sentinels = ["redis://10.0.0.1:26379", "redis://10.0.0.2:26379", "redis://10.0.0.3:26379"];
    /// let store = RedisStore::connect_sentinel(sentinels, "redis://mymaster").await?;
    /// # let _ = store;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect_sentinel<U: AsRef<str>>(
        sentinels: impl IntoIterator<Item = U>,
        master: &str,
    ) -> Result<Self, StoreError> {
        let sentinels = Sentinels::at(sentinels, master).map_err(store_error)?;
        Self::connected(Reconnecting::to(Address::Sentinels(sentinels))).await
    }

    /// Uses a connection that the application already has: a multiplexed connection, a connection
    /// manager, or a cluster connection of the crate `redis`.
    ///
    /// Its own settings decide how it reconnects. For a
    /// [`ConnectionManager`](https://docs.rs/redis/latest/redis/aio/struct.ConnectionManager.html),
    /// set `number_of_retries` to 0, or requests wait for its retries until the layer's
    /// `store_timeout` ends. Cluster connections follow moved slots and failovers by themselves.
    pub fn new<C>(connection: C) -> Self
    where
        C: ConnectionLike + Clone + Send + Sync + 'static,
    {
        Self::over(Given(connection))
    }

    /// Sets what the names of all keys start with. Default: `idempotency:`.
    ///
    /// The rest of a name is the [`RecordKey`] as 64 hexadecimal digits. On a cluster, use no
    /// braces in the prefix: they would put all keys into one slot.
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

    fn server(url: &str) -> Result<Reconnecting, StoreError> {
        let server = Server::at(url).map_err(store_error)?;
        Ok(Reconnecting::to(Address::Server(server)))
    }

    async fn connected(connection: Reconnecting) -> Result<Self, StoreError> {
        connection.connect().await.map_err(store_error)?;
        Ok(Self::over(connection))
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

    /// Reads what is under a key.
    async fn find(&self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        let mut command = Cmd::new();
        command.arg("GET").arg(self.name(key));
        match self.connection.ask(&command).await.map_err(store_error)? {
            Value::Nil => Ok(None),
            Value::BulkString(found) => Ok(Some(found)),
            _ => Err(unexpected_reply()),
        }
    }

    /// Runs the step of an owner, and reports whether it was taken.
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
        let found = match self.connection.ask(&command).await {
            Ok(Value::Nil) => return Ok(Begin::Started),
            Ok(Value::BulkString(found)) => found,
            Ok(_) => return Err(unexpected_reply()),
            Err(error) if is_refusal(&error) => match self.find(key).await {
                Ok(Some(found)) => found,
                Ok(None) | Err(_) => return Err(store_error(error)),
            },
            Err(error) => return Err(store_error(error)),
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

/// Rounds up to the unit in which the server counts, and down to the most that it can count.
fn millis(duration: Duration) -> u64 {
    let millis = duration.as_nanos().div_ceil(1_000_000).max(1);
    u64::try_from(millis).unwrap_or(u64::MAX).min(LONGEST)
}

/// A thousand years: far below where the server's clock would overflow.
const LONGEST: u64 = 1000 * 365 * 24 * 60 * 60 * 1000;

const DIGITS: &[u8; 16] = b"0123456789abcdef";
