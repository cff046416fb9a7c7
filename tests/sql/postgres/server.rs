//! A PostgreSQL server of a test's own, which the test can hurt.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::Command;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::cluster_support::daemon::Daemon;
use crate::cluster_support::{left_out, process};

/// A server that ends with the test.
pub(crate) struct Server(Daemon);

impl Server {
    /// Starts a server, or says that the test is left out.
    pub(crate) fn start(test: &str) -> Option<Self> {
        Self::start_with(test, |programs, data| {
            let mut command = as_user(&[&programs("initdb"), "-D", data]);
            command.extend(["-A", "trust", "-U", "postgres", "-N"].map(str::to_owned));
            command
        })
    }

    /// Starts a standby that follows this server, until it is promoted.
    pub(crate) fn standby(&self, test: &str) -> Option<Self> {
        let port = self.address().port().to_string();
        Self::start_with(test, |programs, data| {
            let mut command = as_user(&[&programs("pg_basebackup"), "-D", data]);
            let of = [
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                "postgres",
                "-R",
                "-c",
                "fast",
            ];
            command.extend(of.map(str::to_owned));
            command
        })
    }

    /// Starts a server on the data that a command makes, which is given where the programs are.
    fn start_with(
        test: &str,
        make: impl Fn(&dyn Fn(&str) -> String, &str) -> Vec<String>,
    ) -> Option<Self> {
        let Some(programs) = programs() else {
            let install = "apt-get install postgresql procps, or run tests/run.sh";
            left_out::say(test, install);
            return None;
        };
        let [port] = process::free_ports();
        let mut daemon = Daemon::new("postgres", port);
        let folder = daemon.folder().to_str().unwrap().to_owned();
        own(&folder);
        let data = format!("{folder}/data");
        let program = |name: &str| programs.join(name).to_str().unwrap().to_owned();
        let made = make(&program, &data);
        run(Command::new(&made[0]).args(&made[1..]));
        let port = port.to_string();
        let mut server = as_user(&[&program("postgres"), "-D", &data]);
        server.extend(["-p", &port, "-h", "127.0.0.1", "-k", &folder].map(str::to_owned));
        let is_ready = programs.join("pg_isready");
        daemon.start(server, move || {
            let asked = Command::new(&is_ready)
                .args(["-q", "-h", "127.0.0.1", "-p", &port])
                .status();
            asked.unwrap().success()
        });
        Some(Self(daemon))
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address())
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
