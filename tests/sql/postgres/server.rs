//! A PostgreSQL server of a test's own, which the test can hurt.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::cluster_support::clock::Clock;
use crate::cluster_support::daemon::Daemon;
use crate::cluster_support::{left_out, process};

/// A server that ends with the test.
pub(crate) struct Server(Daemon);

impl Server {
    /// Starts a server, or says that the test is left out.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let new = New::of(test)?;
        new.initdb();
        Some(new.run(|command| command))
    }

    /// Starts a server whose clock can be set, or says that the test is left out.
    pub(crate) fn with_clock(test: &str) -> Option<(Self, Clock)> {
        let new = New::of(test)?;
        let clock = Clock::new(test, new.daemon.folder())?;
        new.initdb();
        Some((new.run(|command| clock.of(&command)), clock))
    }

    /// Starts a server whose write-ahead log is in a folder of its own, in files of one MiB.
    pub(crate) fn with_log_in(test: &str, folder: &Path) -> Option<Self> {
        let new = New::of(test)?;
        own(folder.to_str().unwrap());
        let log = folder.join("log");
        let log = ["--wal-segsize", "1", "--waldir", log.to_str().unwrap()];
        new.make("initdb", &[&INITDB[..], &log].concat());
        Some(new.run(|command| command))
    }

    /// Starts a standby that follows this server, until it is promoted.
    pub(crate) fn standby(&self, test: &str) -> Option<Self> {
        let new = New::of(test)?;
        let port = self.address().port().to_string();
        let of = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres"];
        new.make("pg_basebackup", &[&of[..], &["-R", "-c", "fast"]].concat());
        Some(new.run(|command| command))
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address())
    }

    /// Returns the server's process without those that it has started.
    pub(crate) fn pid(&self) -> u32 {
        let file = self.folder().join("data/postmaster.pid");
        let text = std::fs::read_to_string(file).unwrap();
        text.lines().next().unwrap().parse().unwrap()
    }

    /// Runs SQL past the store: statements that `;` parts, each in a transaction of its own.
    pub(crate) async fn ask(&self, sql: &str) -> Vec<PgRow> {
        let mut connection = PgConnection::connect(&self.url()).await.unwrap();
        let mut rows = Vec::new();
        for sql in sql.split(';') {
            let sql = AssertSqlSafe(sql.to_owned());
            rows = connection.fetch_all(sqlx::raw_sql(sql)).await.unwrap();
        }
        rows
    }
}

/// A server that is not started yet.
struct New {
    programs: PathBuf,
    daemon: Daemon,
}

impl New {
    fn of(test: &str) -> Option<Self> {
        let Some(programs) = programs() else {
            let install = "apt-get install postgresql procps, or run tests/run.sh";
            left_out::say(test, install);
            return None;
        };
        let [port] = process::free_ports();
        let daemon = Daemon::new("postgres", port);
        own(daemon.folder().to_str().unwrap());
        Some(Self { programs, daemon })
    }

    fn program(&self, name: &str) -> String {
        self.programs.join(name).to_str().unwrap().to_owned()
    }

    fn data(&self) -> String {
        self.daemon
            .folder()
            .join("data")
            .to_str()
            .unwrap()
            .to_owned()
    }

    fn initdb(&self) {
        self.make("initdb", &INITDB);
    }

    /// Makes the data by a program.
    fn make(&self, program: &str, arguments: &[&str]) {
        let (program, data) = (self.program(program), self.data());
        let command = as_user(&[&[&*program, "-D", &data], arguments].concat());
        run(Command::new(&command[0]).args(&command[1..]));
    }

    /// Starts the server by a command that wraps its own.
    fn run(self, wrap: impl FnOnce(Vec<String>) -> Vec<String>) -> Server {
        let port = self.daemon.address().port().to_string();
        let folder = self.daemon.folder().to_str().unwrap();
        let (program, data) = (self.program("postgres"), self.data());
        let command = [
            &*program,
            "-D",
            &data,
            "-p",
            &port,
            "-h",
            "127.0.0.1",
            "-k",
            folder,
        ];
        // What is shared by the machine stays there when the server is killed.
        let own_memory = ["-c", "dynamic_shared_memory_type=mmap"];
        let command = command.into_iter().chain(own_memory).map(str::to_owned);
        let command = wrap(command.collect());
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        let command = as_user(&command);
        let is_ready = self.program("pg_isready");
        let mut daemon = self.daemon;
        daemon.start(command, move || {
            let asked = Command::new(&is_ready)
                .args(["-q", "-h", "127.0.0.1", "-p", &port])
                .status();
            asked.unwrap().success()
        });
        Server(daemon)
    }
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

const INITDB: [&str; 5] = ["-A", "trust", "-U", "postgres", "-N"];

/// Returns a command line that is not run as root, which neither PostgreSQL nor PgBouncer accepts.
pub(crate) fn as_user(command: &[&str]) -> Vec<String> {
    let mut whole = Vec::new();
    if is_root() {
        // Keeps the process id, which `runuser` does not.
        whole.extend([
            "setpriv",
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
        ]);
    }
    whole.extend(command);
    whole.into_iter().map(str::to_owned).collect()
}

/// Gives a file or a folder to the user of `as_user`.
pub(crate) fn own(path: &str) {
    if is_root() {
        run(Command::new("chown").args(["-R", "postgres", path]));
    }
}

/// Finds the folder of the server's programs, which Debian keeps out of `PATH`.
fn programs() -> Option<PathBuf> {
    if !process::is_there("pgrep") {
        // Nobody would find the server's sessions.
        return None;
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let debian = versions.flatten().map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain(debian);
    folders.find(|folder| {
        ["initdb", "postgres", "pg_isready", "pg_basebackup"]
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
