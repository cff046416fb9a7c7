//! A server of a test's own, which the test can hurt.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::process::{self, Process};

/// A server in a folder of its own; both end with the test.
pub struct Daemon {
    folder: PathBuf,
    port: u16,
    command: Vec<String>,
    answers: Box<dyn Fn() -> bool + Send + Sync>,
    process: Option<Process>,
}

impl Daemon {
    /// Makes the folder for a server of this name at a port of the loopback interface.
    pub fn new(name: &str, port: u16) -> Self {
        let folder = std::env::temp_dir().join(format!("idempotency-{name}-{port}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self {
            folder,
            port,
            command: Vec::new(),
            answers: Box::new(|| true),
            process: None,
        }
    }

    /// Starts the server by a command, and waits until it answers.
    pub fn start(
        &mut self,
        command: Vec<String>,
        answers: impl Fn() -> bool + Send + Sync + 'static,
    ) {
        self.command = command;
        self.answers = Box::new(answers);
        self.run();
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Ends the server as a crash of its machine would: all of its processes at once.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.process = None;
    }

    /// Starts the server again at the same address, and waits until it answers.
    pub fn run(&mut self) {
        let (command, log) = (&self.command, self.folder.join("log"));
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        self.process = Some(Process::start(&command, &log));
        let start = Instant::now();
        while !(self.answers)() {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "the server does not answer: {:?}",
                fs::read_to_string(log)
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets connections stay, and nothing answer.
    pub fn stop(&self) {
        self.signal("STOP");
    }

    /// Lets the server go on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Sends a signal to the server and to the processes that it has started.
    pub fn signal(&self, name: &str) {
        let server = self.process.as_ref().unwrap().pid();
        // While it stands still, it starts no other.
        process::signal(server, "STOP");
        let children = process::children(server);
        process::signal(server, name);
        for child in children {
            process::signal(child, name);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.process.is_some() {
            // Its children end with it, and are gone when the folder is removed.
            self.kill();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
