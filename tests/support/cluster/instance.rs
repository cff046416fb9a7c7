//! One instance of the API as a process of its own: this test binary, run again.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::Semaphore;
use tower_idempotency::IdempotencyLayer;

use super::{api, store};
use crate::process;
use crate::server::serve;

/// A running instance, as its parent sees it.
pub struct Instance {
    child: Child,
    authority: String,
    runs: Arc<Runs>,
    reader: JoinHandle<()>,
}

/// The keys for which the handler has started, in order.
#[derive(Default)]
struct Runs(Mutex<Vec<String>>, Condvar);

impl Instance {
    /// Starts an instance on a store. Its handler does not end before it is released, if it `hangs`.
    pub fn start(url: &str, lease: Duration, hangs: bool) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["instance", "--exact", "--nocapture", "--test-threads=1"])
            .env(STORE, url)
            .env(LEASE, lease.as_millis().to_string())
            .envs(hangs.then_some((HANGS, "yes")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let authority = loop {
            let line = lines.next().expect("the instance starts").unwrap();
            if let Some(authority) = line.strip_prefix("listens ") {
                break authority.to_owned();
            }
        };
        let runs = Arc::<Runs>::default();
        let seen = Arc::clone(&runs);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(key) = line.strip_prefix("runs ") {
                    seen.0.lock().unwrap().push(key.to_owned());
                    seen.1.notify_all();
                }
            }
        });
        Self {
            child,
            authority,
            runs,
            reader,
        }
    }

    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Waits until the handler has started this often.
    pub fn wait_for_runs(&self, count: usize) {
        let runs = self.runs.0.lock().unwrap();
        let limit = Duration::from_secs(60);
        let wait = |runs: &mut Vec<String>| runs.len() < count;
        let (runs, waited) = self.runs.1.wait_timeout_while(runs, limit, wait).unwrap();
        assert!(!waited.timed_out(), "only {} of {count} ran", runs.len());
    }

    /// Lets handlers end that hang.
    pub fn release(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Ends the instance, and returns the keys for which its handler has started.
    pub fn end(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        self.gone()
    }

    /// Ends the instance by `kill -9`, and returns the keys for which its handler has started.
    pub fn kill(self) -> Vec<String> {
        process::signal(self.child.id(), "KILL");
        self.gone()
    }

    fn gone(mut self) -> Vec<String> {
        self.child.wait().unwrap();
        self.reader.join().unwrap();
        std::mem::take(&mut *self.runs.0.lock().unwrap())
    }
}

/// What the process does if it was started as an instance; in the parent's own run, nothing.
pub fn main() {
    let Ok(url) = std::env::var(STORE) else {
        return;
    };
    let hanging = Arc::new(Semaphore::new(0));
    let released = Arc::clone(&hanging);
    std::thread::spawn(move || {
        // A line releases the handlers; the parent's end of the pipe closes when the parent dies,
        // however it does.
        for _ in std::io::stdin().lines() {
            released.close();
        }
        std::process::exit(0);
    });
    let lease = std::env::var(LEASE).unwrap().parse().unwrap();
    let hangs = std::env::var_os(HANGS).is_some();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        // Patient, so that a busy machine does not count as a store that fails.
        let layer = IdempotencyLayer::new(store::open(&url).await)
            .lease(Duration::from_millis(lease))
            .store_timeout(Duration::from_secs(20));
        let router = api::router(layer, move |key| {
            let hanging = Arc::clone(&hanging);
            async move {
                say(&format!("runs {key}"));
                if hangs {
                    assert!(hanging.acquire().await.is_err(), "it is closed");
                }
                // Long enough for the other instances' requests to find the claim.
                tokio::time::sleep(Duration::from_millis(2)).await;
                let body = format!("{{\"key\":\"{key}\",\"by\":{}}}", std::process::id());
                let json = [("content-type", "application/json")];
                (StatusCode::CREATED, json, body)
            }
        });
        say(&format!("listens {}", serve(router).await));
        std::future::pending::<()>().await;
    });
}

/// Sends the parent a line. It starts on a new one, since the test runner may have begun one.
fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    stdout.flush().unwrap();
}

const STORE: &str = "TEST_INSTANCE_STORE";
const LEASE: &str = "TEST_INSTANCE_LEASE";
const HANGS: &str = "TEST_INSTANCE_HANGS";
