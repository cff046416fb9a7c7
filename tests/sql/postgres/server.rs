//! A PostgreSQL server of a test's own, which the test can hurt.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cluster_support::process::{self, Process};
use crate::cluster_support::{left_out, outage};

/// A server in a folder of its own, which ends with the test.
pub(crate) struct Server {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Server {
    /// Starts a server, or says that the test is left out.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let Some(programs) = programs() else {
            left_out::say(test, "apt-get install postgresql, or run tests/run.sh");
            return None;
        };
        let [port] = process::free_ports();
        let folder = std::env::temp_dir().join(format!("idempotency-postgres-{port}"));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&folder));
        }
        let mut server = Self {
            programs,
            folder,
            port,
            process: None,
        };
        let init = server.command("initdb", &["-A", "trust", "-U", "postgres", "-N"]);
        run(Command::new(&init[0]).args(&init[1..]));
        server.run();
        Some(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address())
    }

    /// Ends the server as a crash of its machine would: all of its processes at once.
    pub(crate) fn kill(&mut self) {
        self.signal_all("KILL");
        self.process = None;
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn run(&mut self) {
        let (port, folder) = (self.port.to_string(), self.folder.display().to_string());
        let settings = ["-p", &port, "-h", "127.0.0.1", "-k", &folder];
        let command = self.command("postgres", &settings);
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        self.process = Some(Process::start(&command, &self.folder.join("log")));
        let start = Instant::now();
        let ready = self.programs.join("pg_isready");
        let is_ready = || {
            Command::new(&ready)
                .args(["-q", "-h", "127.0.0.1", "-p", &port])
                .status()
        };
        while !is_ready().unwrap().success() {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "the server does not answer: {:?}",
                std::fs::read_to_string(self.folder.join("log"))
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal to the server and to the processes of its sessions.
    fn signal_all(&self, name: &str) {
        let pid_file = self.folder.join("data/postmaster.pid");
        let pid_file = std::fs::read_to_string(pid_file).unwrap();
        let server: u32 = pid_file.lines().next().unwrap().parse().unwrap();
        process::signal(server, name);
        let children = Command::new("pgrep")
            .args(["-P", &server.to_string()])
            .output();
        let children = String::from_utf8(children.unwrap().stdout).unwrap();
        for child in children.lines() {
            // It may have ended meanwhile.
            let _ = Command::new("kill").args(["-s", name, child]).status();
        }
    }

    /// Returns the command line of a program for this server. PostgreSQL refuses to run as root.
    fn command(&self, program: &str, arguments: &[&str]) -> Vec<String> {
        let mut command = Vec::new();
        if is_root() {
            // Keeps the process id, which `runuser` does not.
            command.extend([
                "setpriv",
                "--reuid=postgres",
                "--regid=postgres",
                "--clear-groups",
            ]);
        }
        let (program, data) = (self.programs.join(program), self.folder.join("data"));
        command.extend([program.to_str().unwrap(), "-D", data.to_str().unwrap()]);
        command.extend(arguments);
        command.into_iter().map(str::to_owned).collect()
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
        self.signal_all("STOP");
    }

    fn resume(&mut self) {
        self.signal_all("CONT");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.is_some() {
            // Its sessions end with it, and are gone when the folder is removed.
            self.kill();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Finds the folder of the server's programs, which Debian keeps out of `PATH`.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let debian = versions.flatten().map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain(debian);
    folders.find(|folder| {
        ["initdb", "postgres", "pg_isready"]
            .iter()
            .all(|p| folder.join(p).is_file())
    })
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}
