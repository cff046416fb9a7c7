//! A Redis server of a test's own, in a folder of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use redis::ConnectionLike;

use crate::cluster_support::left_out;
use crate::cluster_support::outage;
use crate::cluster_support::process::{self, Process};

/// A server that ends with the test.
pub(crate) struct Server {
    process: Option<Process>,
    port: u16,
    folder: PathBuf,
    settings: Vec<String>,
}

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
        if program().is_none() {
            left_out::say(test, "apt-get install redis-server, or run tests/run.sh");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("idempotency-redis-{port}"));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mut server = Self {
            process: None,
            port,
            folder,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
        };
        server.run();
        Some(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.address())
    }

    /// Returns a plain connection, to look at what the store has done.
    pub(crate) fn look(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_connection().unwrap()
    }

    /// Ends the server as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn run(&mut self) {
        let port = self.port.to_string();
        let mut command = vec![program().unwrap(), "--port", &port, "--bind", "127.0.0.1"];
        command.extend(["--save", "", "--dir", self.folder.to_str().unwrap()]);
        command.extend(self.settings.iter().map(String::as_str));
        self.process = Some(Process::start(&command, &self.folder.join("log")));
        let start = Instant::now();
        let client = redis::Client::open(self.url()).unwrap();
        while !client
            .get_connection()
            .is_ok_and(|mut c| c.check_connection())
        {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "the server does not answer: {:?}",
                std::fs::read_to_string(self.folder.join("log"))
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        self.process.as_ref().unwrap().signal(name);
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

impl outage::Server for Server {
    fn kill(&mut self) {
        Server::kill(self);
    }

    fn start(&mut self) {
        self.run();
    }

    fn stop(&mut self) {
        self.signal("STOP");
    }

    fn resume(&mut self) {
        self.signal("CONT");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process = None;
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn program() -> Option<&'static str> {
    ["redis-server", "valkey-server"]
        .into_iter()
        .find(|program| process::is_there(program))
}
