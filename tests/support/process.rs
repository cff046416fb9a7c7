//! A server process that ends with the test, however that ends.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// A process that is killed when this is dropped, or when the test's process dies.
#[derive(Debug)]
pub struct Process {
    /// A shell that waits for the end of its input, which is when this process is gone.
    keeper: Child,
    pid: u32,
}

impl Process {
    /// Starts a command whose output goes to a file.
    pub fn start(command: &[&str], log: &Path) -> Self {
        const KEEPER: &str = r#"
            "$@" </dev/null >&2 &
            echo $!
            cat >/dev/null
            kill -KILL $! 2>/dev/null
            wait $! 2>/dev/null
        "#;
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut pid = String::new();
        BufReader::new(keeper.stdout.as_mut().unwrap())
            .read_line(&mut pid)
            .unwrap();
        let pid = pid.trim().parse().unwrap();
        Self { keeper, pid }
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Process {
    /// Kills the process, and returns when it is gone.
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Sends a signal to a process that this test has started, if it has not ended meanwhile.
pub fn signal(pid: u32, name: &str) {
    let mut sent = Command::new("kill");
    sent.args(["-s", name, &pid.to_string()]);
    // Its word about a process that is gone is no news of a test.
    sent.output().expect("the program `kill`");
}

/// Returns the processes that a process has started; without the program `pgrep`, none.
pub fn children(pid: u32) -> Vec<u32> {
    let mut found = Command::new("pgrep");
    found.args(["-P", &pid.to_string()]);
    let found = found.output();
    let children = found.map_or_else(|_| Vec::new(), |found| found.stdout);
    let children = String::from_utf8(children).unwrap();
    children
        .lines()
        .map(|child| child.parse().unwrap())
        .collect()
}

/// Returns whether a program can be run here.
pub fn is_there(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|paths| {
        std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
    })
}

/// Returns ports of the loopback interface on which nobody listens, each another.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind(("127.0.0.1", 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Returns free ports. The ports 10,000 above them are free as well, since a Redis Cluster needs
/// both.
pub fn free_ports_for_a_cluster<const N: usize>() -> [u16; N] {
    // No port is handed out twice by this process, whether or not it is in use by now, and another
    // process starts elsewhere.
    static USED: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 1_000) as u16 * 20;
    [(); N].map(|()| {
        loop {
            let port = first + USED.fetch_add(1, Ordering::SeqCst);
            let both = [port, port + 10_000].map(|port| TcpListener::bind(("127.0.0.1", port)));
            if both.iter().all(Result::is_ok) {
                return port;
            }
        }
    })
}
