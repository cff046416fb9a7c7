//! The steps that compare the owner first, each as one script in the server.

use std::sync::LazyLock;

use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value};

use super::connection::Connection;

/// A script, sent by its hash, or with its text if the server does not know it.
pub(super) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        let hash = redis::Script::new(text).get_hash().to_owned();
        Self { text, hash }
    }

    /// Runs the script on one key.
    ///
    /// A server forgets its scripts when it restarts, and a replica that took over may never have
    /// had them. `EVAL` runs the script and keeps it in one step, so nothing can come in between.
    pub(super) async fn run(
        &self,
        connection: &dyn Connection,
        key: &[u8],
        arguments: &[&[u8]],
    ) -> RedisResult<Value> {
        let command = |name: &str, script: &str| {
            let bytes = arguments
                .iter()
                .map(|argument| argument.len())
                .sum::<usize>();
            let room = name.len() + script.len() + 1 + key.len() + bytes;
            let mut command = Cmd::with_capacity(4 + arguments.len(), room);
            command.arg(name).arg(script).arg(1).arg(key);
            for argument in arguments {
                command.arg(argument);
            }
            command
        };
        let by_hash = command("EVALSHA", &self.hash);
        match connection.ask(&by_hash).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                connection.ask(&command("EVAL", self.text)).await
            }
            result => result,
        }
    }
}

/// Each compares what the value starts with, by `wire::codec::claim_prefix`, so that a long record
/// is not read. Keys that have ended are absent to a script, as to any command.
///
/// A key that this owner does not hold is completed only if it is absent. What a handler has done
/// can't be undone, so its record may go over `maxmemory`, which then holds new claims off.
pub(super) static COMPLETE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "#!lua flags=allow-oom
local held = redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) == ARGV[1]
local only_if = held and 'XX' or 'NX'
if redis.call('SET', KEYS[1], ARGV[2], only_if, 'PX', ARGV[3]) then return 1 end
return 0",
    )
});

pub(super) static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "#!lua flags=allow-oom
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])",
    )
});

pub(super) static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "#!lua flags=allow-oom
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])",
    )
});
