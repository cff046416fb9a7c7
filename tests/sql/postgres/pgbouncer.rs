//! PgBouncer on the way to the server.

use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use support::daemon::Daemon;
use support::process;

use super::server::{self, Server};

/// A PgBouncer before a server, which pools transactions and ends with the test.
pub(crate) struct Pooler(Daemon);

impl Pooler {
    /// Starts a program with this `max_prepared_statements`, and as many sessions at the server.
    pub(crate) fn start(program: &Version, server: &Server, prepared: u32, sessions: u32) -> Self {
        let [port] = process::free_ports();
        let mut daemon = Daemon::new("pgbouncer", port);
        let folder = daemon.folder().to_str().unwrap().to_owned();
        let prepared = if program.knows_statements {
            format!("max_prepared_statements = {prepared}\n")
        } else {
            String::new()
        };
        let settings = format!(
            "[databases]\n\
             postgres = host=127.0.0.1 port={} dbname=postgres user=postgres\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = {sessions}\n\
             ignore_startup_parameters = extra_float_digits\n{prepared}",
            server.address().port(),
        );
        let file = format!("{folder}/pgbouncer.ini");
        std::fs::write(&file, settings).unwrap();
        server::own(&folder);
        let command = server::as_user(&[program.path.to_str().unwrap(), &file]);
        let address = daemon.address();
        daemon.start(command, move || TcpStream::connect(address).is_ok());
        Self(daemon)
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.0.address())
    }
}

/// A PgBouncer that is installed here.
pub(crate) struct Version {
    path: PathBuf,
    pub(crate) name: String,
    /// 1.21 or newer.
    pub(crate) knows_statements: bool,
}

/// Finds all of them: in the usual places, and where `PGBOUNCER` says. Says what is left out without
/// one that knows prepared statements, which Debian 12 does not have.
pub(crate) fn versions() -> Vec<Version> {
    let named = std::env::var_os("PGBOUNCER").map(PathBuf::from);
    let usual = ["/usr/sbin/pgbouncer", "/usr/local/bin/pgbouncer"].map(PathBuf::from);
    let paths = usual.into_iter().chain(named);
    let versions = paths.filter_map(|path| {
        let output = Command::new(&path).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let name = text.lines().next()?.to_owned();
        let number = name.strip_prefix("PgBouncer ")?.split('.').nth(1)?;
        let knows_statements = number.parse::<u32>().ok()? >= 21;
        Some(Version {
            path,
            name,
            knows_statements,
        })
    });
    let versions: Vec<_> = versions.collect();
    if !versions.iter().any(|version| version.knows_statements) {
        let line =
            "\nLEFT OUT: prepared statements through PgBouncer 1.21 or newer: set PGBOUNCER\n";
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    versions
}
