//! A Redis server of a test's own, in a folder of its own.

use std::ops::{Deref, DerefMut};

use redis::{ConnectionLike, FromRedisValue, RedisResult};

use crate::cluster_support::clock::Clock;
use crate::cluster_support::daemon::Daemon;
use crate::cluster_support::{left_out, process};

/// A server that ends with the test.
pub(crate) struct Server(Daemon);

impl Server {
    /// Starts a server, or says that the test is left out.
    pub(crate) fn start(test: &str) -> Option<Self> {
        Self::start_with(test, &[])
    }

    /// Starts a server with these settings, or says that the test is left out.
    pub(crate) fn start_with(test: &str, settings: &[&str]) -> Option<Self> {
        let [port] = process::free_ports();
        Self::start_at(test, port, settings)
    }

    pub(crate) fn start_at(test: &str, port: u16, settings: &[&str]) -> Option<Self> {
        Self::start_by(test, port, settings, |_, command| Some(command))
    }

    /// Starts a server whose clock can be stepped, or says that the test is left out.
    pub(crate) fn start_with_clock(test: &str) -> Option<(Self, Clock)> {
        let ([port], mut made) = (process::free_ports(), None);
        let server = Self::start_by(test, port, &[], |daemon, command| {
            let clock = made.insert(Clock::new(test, daemon.folder())?);
            Some(clock.of(&command))
        })?;
        Some((server, made?))
    }

    fn start_by(
        test: &str,
        port: u16,
        settings: &[&str],
        change: impl FnOnce(&Daemon, Vec<String>) -> Option<Vec<String>>,
    ) -> Option<Self> {
        let Some(program) = program() else {
            left_out::say(test, "apt-get install redis-server, or run tests/run.sh");
            return None;
        };
        let mut daemon = Daemon::new("redis", port);
        let port = port.to_string();
        let mut command = vec![&*program, "--port", &port, "--bind", "127.0.0.1"];
        command.extend(["--save", "", "--dir", daemon.folder().to_str().unwrap()]);
        command.extend(settings);
        let command = command.into_iter().map(str::to_owned).collect();
        let command = change(&daemon, command)?;
        let client = redis::Client::open(format!("redis://{}/", daemon.address())).unwrap();
        daemon.start(command, move || {
            let mut connection = client.get_connection();
            connection
                .as_mut()
                .is_ok_and(ConnectionLike::check_connection)
        });
        Some(Self(daemon))
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.address())
    }

    /// Asks by a command whose words have no spaces in them.
    pub(crate) fn ask<T: FromRedisValue>(&self, words: &str) -> T {
        ask(&self.url(), words).unwrap()
    }

    /// Returns a plain connection, to look at what the store has done.
    pub(crate) fn look(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_connection().unwrap()
    }
}

/// Asks a server by a command whose words have no spaces in them.
pub(crate) fn ask<T: FromRedisValue>(url: &str, words: &str) -> RedisResult<T> {
    let client = redis::Client::open(url)?;
    let mut command = redis::Cmd::new();
    for word in words.split(' ') {
        command.arg(word);
    }
    command.query(&mut client.get_connection()?)
}

impl Deref for Server {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.0
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.0
    }
}

/// A server that a test uses and does not hurt: that of `REDIS_URL`, or one of its own.
pub(crate) struct AnyServer {
    url: String,
    _own: Option<Server>,
}

impl AnyServer {
    /// Finds or starts a server, or says that the test is left out.
    pub(crate) fn find(test: &str) -> Option<Self> {
        if let Ok(url) = std::env::var("REDIS_URL") {
            return Some(Self { url, _own: None });
        }
        let own = Server::start(test)?;
        Some(Self {
            url: own.url(),
            _own: Some(own),
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// Returns the server to start: that of `REDIS_PROGRAM`, or the first that is there.
pub(crate) fn program() -> Option<String> {
    let chosen = std::env::var("REDIS_PROGRAM").ok();
    let mut known = ["redis-server", "valkey-server"].into_iter();
    chosen.or_else(|| {
        let found = known.find(|program| process::is_there(program))?;
        Some(found.to_owned())
    })
}
