//! One process of the bank: this test binary, run again.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use axum::routing::post;
use support::Random;
use tokio::sync::Semaphore;
use tower_idempotency::{IdempotencyLayer, Outcome};

use super::engine::Engine;
use super::handler::{self, Bank};
use super::watched::Watched;
use crate::cluster_support::process;

/// How often processes have said a word, by the word.
#[derive(Clone, Default)]
pub(crate) struct Words(Arc<Mutex<BTreeMap<String, usize>>>);

impl Words {
    pub(crate) fn count(&self, word: &str) -> usize {
        self.0.lock().unwrap().get(word).copied().unwrap_or(0)
    }

    fn hear(&self, word: String) {
        *self.0.lock().unwrap().entry(word).or_default() += 1;
    }
}

/// A running process, as its parent sees it.
pub(crate) struct Instance {
    child: Child,
    address: SocketAddr,
    reader: Option<JoinHandle<()>>,
}

impl Instance {
    /// Starts a process on a database, and counts what it says.
    pub(crate) fn start(url: &str, seed: u64, words: &Words) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["instance_of_the_bank", "--exact", "--nocapture"])
            .env(DATABASE, url)
            .env(SEED, seed.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the instance starts").unwrap();
            if let Some(address) = line.strip_prefix("says listens ") {
                break address.parse().unwrap();
            }
        };
        let words = words.clone();
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(word) = line.strip_prefix("says ") {
                    words.hear(word.to_owned());
                }
            }
        });
        Self {
            child,
            address,
            reader: Some(reader),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets it stand still.
    pub(crate) fn stop(&self) {
        process::signal(self.child.id(), "STOP");
    }

    /// Returns whether it stands still, as far as the system says.
    pub(crate) fn is_stopped(&self) -> bool {
        let state = Command::new("ps")
            .args(["-o", "state=", "-p", &self.child.id().to_string()])
            .output()
            .unwrap();
        state.stdout.starts_with(b"T")
    }

    /// Ends it by `kill -9`, and returns when it is gone.
    pub(crate) fn kill(&mut self) {
        if self.reader.is_none() {
            return;
        }
        process::signal(self.child.id(), "KILL");
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }

    /// Lets a request go on that waits for its parent, once the process does not stand still.
    pub(crate) fn go(&mut self) {
        self.child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"go\n")
            .unwrap();
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        process::signal(self.child.id(), "CONT");
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the process does if it was started as an instance; in the parent's own run, nothing.
pub(crate) fn main() {
    let Ok(url) = std::env::var(DATABASE) else {
        return;
    };
    // Its parent's end of the pipe closes when the parent dies, however it does.
    std::thread::spawn(|| {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            GO.add_permits(1);
        }
        std::process::exit(0);
    });
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        match url.split_once(':').unwrap().0 {
            #[cfg(feature = "postgres")]
            "postgres" => serve::<sqlx::Postgres>(&url, seed).await,
            #[cfg(feature = "sqlite")]
            "sqlite" => serve::<sqlx::Sqlite>(&url, seed).await,
            _ => panic!("no database of this build has a URL like {url}"),
        }
    });
}

async fn serve<DB: Engine>(url: &str, seed: u64) {
    let pool = DB::pool(url);
    let sharing = DB::sharing(&pool).filter(|_| seed % 4 == 0);
    let store = match sharing {
        Some(store) => store,
        None => DB::store(url).await,
    };
    tokio::spawn(DB::cleaner(&store));
    let layer = IdempotencyLayer::new(Watched(store))
        .transactional()
        .lease(LEASE)
        .store_timeout(STORE_TIMEOUT);
    let bank = Arc::new(Bank {
        pool,
        random: Mutex::new(Random::new(seed, 0)),
    });
    let app = Router::new()
        .route("/transfers/{operation}", post(handler::transfer::<DB>))
        .route("/entries/{operation}", post(handler::entry::<DB>))
        .layer(layer)
        .layer(axum::middleware::map_response(
            async |mut response: Response| {
                let outcome = Outcome::of(response.extensions()).as_str();
                let outcome = http::HeaderValue::from_static(outcome);
                response.headers_mut().insert("x-outcome", outcome);
                response
            },
        ))
        .with_state(bank);
    say(&format!("listens {}", support::serve(app).await));
    std::future::pending::<()>().await;
}

/// Says that a request has come as far as it should, and waits until the parent lets it go on.
pub(crate) async fn wait_for_the_parent() {
    say("stands");
    GO.acquire().await.unwrap().forget();
}

/// Says a word to the parent. It starts on a new line, since the test runner may have begun one.
pub(crate) fn say(word: &str) {
    let mut stdout = std::io::stdout().lock();
    // The parent may be about to end.
    let _ = stdout.write_all(format!("\nsays {word}\n").as_bytes());
    let _ = stdout.flush();
}

/// Short, so that much happens in a short time.
pub(crate) const LEASE: Duration = Duration::from_secs(2);
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_millis(500);

/// What waits for the parent, and what that has let go on.
static GO: Semaphore = Semaphore::const_new(0);

const DATABASE: &str = "TEST_BANK_DATABASE";
const SEED: &str = "TEST_BANK_SEED";
