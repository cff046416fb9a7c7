//! Whether a server is fit, asked at the start of an application.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use redis::{Cmd, RedisError, Value};
use tokio::time::timeout;

use super::RedisStore;
use super::error::{is_refusal, store_error};
use crate::store::{
    Begin, Claim, Fingerprint, Owner, Ownership, Record, RecordKey, Store, StoreError,
    StoreErrorKind,
};
use crate::trace;

impl RedisStore {
    /// Checks that the server does what the store needs, for the start of an application.
    ///
    /// It takes each of the store's steps once, on a key of its own that it removes. It reads the
    /// server's version, its role and its `maxmemory-policy`; where the user may not (`INFO`), it
    /// logs a warning. Nothing that is kept is changed. On a cluster it reads the settings of the
    /// nodes that the connection asks, and takes the steps on one of them.
    ///
    /// # Errors
    ///
    /// Each error says in its [`source`](std::error::Error::source) what is wrong, and what would be
    /// right.
    ///
    /// - [`StoreErrorKind::Misconfigured`]: the server refuses the user, the password, the database
    ///   or a command; it is older than Redis 7.0, a replica, or a node of a cluster; or its policy
    ///   evicts records.
    /// - [`StoreErrorKind::Timeout`]: the server did not do all of it in five seconds.
    /// - Any other kind: the server can't be reached or refuses writes at the moment.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use tower_idempotency::RedisStore;
    /// # async fn run() -> Result<(), tower_idempotency::StoreError> {
    /// let store = RedisStore::connect("redis://127.0.0.1/").await?;
    /// store.check().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn check(&self) -> Result<(), StoreError> {
        let checked = timeout(PATIENCE, async {
            self.connection.ready().await.map_err(store_error)?;
            self.check_settings().await?;
            self.check_steps().await?;
            self.check_slots().await
        });
        let checked = checked.await;
        checked
            .unwrap_or_else(|elapsed| Err(StoreError::new(StoreErrorKind::Timeout, elapsed)))
            .map_err(advised)
    }

    async fn check_settings(&self) -> Result<(), StoreError> {
        let mut command = Cmd::new();
        command.arg("INFO");
        match self.connection.ask(&command).await {
            Ok(reply) => check_info(&reply).map_err(misconfigured),
            Err(error) if is_refusal(&error) => {
                trace::settings_unknown(&store_error(error));
                Ok(())
            }
            Err(error) => Err(store_error(error)),
        }
    }

    /// Takes each step as a request does.
    async fn check_steps(&self) -> Result<(), StoreError> {
        let claim = Claim::new(Owner::new(), Fingerprint::from_bytes([0; 32]));
        let mut key = [0; 32];
        key[..16].copy_from_slice(claim.owner().as_bytes());
        let key = RecordKey::from_bytes(key);
        let taken = self.take_steps(&key, &claim).await.map_err(denied);
        let mut remove = Cmd::new();
        remove.arg("DEL").arg(self.name(&key));
        let removed = self.connection.ask(&remove).await.map_err(store_error);
        // What is not removed ends by itself.
        taken.and(removed.map(drop))
    }

    /// Reads under keys all over a cluster: one node of several would not serve them.
    async fn check_slots(&self) -> Result<(), StoreError> {
        let mut key = [0; 32];
        key[..16].copy_from_slice(Owner::new().as_bytes());
        for n in 0..SLOTS {
            key[31] = n;
            self.find(&RecordKey::from_bytes(key)).await?;
        }
        Ok(())
    }

    async fn take_steps(&self, key: &RecordKey, claim: &Claim) -> Result<(), StoreError> {
        let owner = claim.owner();
        let (fingerprint, headers) = (claim.fingerprint(), HeaderMap::new());
        let record = Record::new(fingerprint, StatusCode::OK, &headers, None);
        let begun = self.begin(key, claim, TERM).await?;
        let renewed = self.renew(key, owner, TERM).await?;
        let released = self.release(key, owner).await?;
        let completed = self.complete(key, owner, &record, TERM).await?;
        let found = self.begin(key, claim, TERM).await?;
        let steps = [renewed, released, completed];
        if matches!((begun, found), (Begin::Started, Begin::Completed(found)) if found == record)
            && steps == [Ownership::Held; 3]
        {
            return Ok(());
        }
        Err(misconfigured(
            "the server does not take the store's steps as Redis 7.0 does",
        ))
    }
}

/// Checks what one server, or each of several, says of itself.
fn check_info(reply: &Value) -> Result<(), String> {
    match reply {
        Value::BulkString(text) => check_lines(&String::from_utf8_lossy(text)),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => check_lines(text),
        Value::Array(of_nodes) => of_nodes.iter().try_for_each(check_info),
        Value::Map(of_nodes) => of_nodes.iter().try_for_each(|(_, info)| check_info(info)),
        _ => Ok(()),
    }
}

fn check_lines(text: &str) -> Result<(), String> {
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    };
    if let Some(version) = value("redis_version") {
        let major = version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok());
        if major.is_some_and(|major: u32| major < 7) {
            return Err(format!(
                "the server is Redis {version}, and the store needs 7.0 or newer, or Valkey"
            ));
        }
    }
    if value("role") == Some("slave") {
        return Err(REPLICA.to_owned());
    }
    match value("maxmemory_policy") {
        Some(policy) if policy != "noeviction" => Err(format!(
            "the server's maxmemory-policy is {policy}, by which it drops kept records, and their \
             writes run again: set it to noeviction, or give the store a server of its own"
        )),
        _ => Ok(()),
    }
}

fn misconfigured(what: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Misconfigured, what.into())
}

/// Recognises that a step is denied or not known. Inside a script, the server has no other code for
/// it than for the rest.
fn denied(error: StoreError) -> StoreError {
    match answer(&error).and_then(RedisError::code) {
        Some("ERR") => {
            let advice =
                "allow what the docs of RedisStore list to this user, on Redis 7.0 or newer";
            Advised::error(StoreErrorKind::Misconfigured, advice, error)
        }
        _ => error,
    }
}

fn answer(error: &StoreError) -> Option<&RedisError> {
    error.source()?.downcast_ref()
}

/// Adds to what the server has answered what would be right.
fn advised(error: StoreError) -> StoreError {
    let answer = answer(&error);
    let code = answer.and_then(RedisError::code);
    let (kind, advice) = match (code, error.kind()) {
        (Some("READONLY"), _) => (StoreErrorKind::Misconfigured, REPLICA),
        (Some("NOPERM"), kind) => (kind, "allow what the docs of RedisStore list to this user"),
        (Some("MOVED"), kind) => (
            kind,
            "the server is a node of a cluster: give RedisStore::new a cluster connection",
        ),
        (Some("NOREPLICAS"), kind) => (
            kind,
            "the server has fewer replicas than min-replicas-to-write asks for",
        ),
        (Some("MISCONF"), kind) => (kind, "the server can't write to its disk: see its log"),
        (Some("OOM"), kind) => (kind, "the server is at its maxmemory: raise it"),
        (_, StoreErrorKind::Misconfigured) if answer.is_some() => (
            StoreErrorKind::Misconfigured,
            "put the server's address, user, password and database into the URL",
        ),
        _ => return error,
    };
    Advised::error(kind, advice, error)
}

/// An error, and what would be right.
#[derive(Debug)]
struct Advised {
    advice: &'static str,
    cause: StoreError,
}

impl Advised {
    fn error(kind: StoreErrorKind, advice: &'static str, cause: StoreError) -> StoreError {
        StoreError::new(kind, Self { advice, cause })
    }
}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.advice)
    }
}

impl Error for Advised {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}

const REPLICA: &str =
    "the server is a replica: connect to its primary, or by RedisStore::connect_sentinel";

/// How many keys are looked at. That one node of two served them all is less likely than one in a
/// thousand million.
const SLOTS: u8 = 32;

/// How long what is left behind lives at most.
const TERM: Duration = Duration::from_secs(10);

const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_itself_is_held_against_what_the_store_needs() {
        let says = [
            (
                "redis_version:7.0.15\r\nrole:master\r\nmaxmemory_policy:noeviction\r\n",
                None,
            ),
            ("redis_version:7.2.4\r\nvalkey_version:8.1.0\r\n", None),
            ("a proxy that says something else", None),
            ("redis_version:6.2.14\r\n", Some("Redis 6.2.14")),
            ("redis_version:8.0.0\r\nrole:slave\r\n", Some("replica")),
            ("maxmemory_policy:volatile-ttl\r\n", Some("volatile-ttl")),
        ];
        for (text, wrong) in says {
            let one = Value::BulkString(text.into());
            let nodes = vec![
                (
                    Value::SimpleString("a".into()),
                    Value::BulkString(says[0].0.into()),
                ),
                (Value::SimpleString("b".into()), one.clone()),
            ];
            for reply in [one, Value::Map(nodes)] {
                let found = check_info(&reply).err();
                assert_eq!(found.is_some(), wrong.is_some(), "{text}: {found:?}");
                assert!(wrong.is_none_or(|wrong| found.is_some_and(|found| found.contains(wrong))));
            }
        }
    }
}
