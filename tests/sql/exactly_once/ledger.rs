//! The long test: clients, processes and servers that fail, and then the ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::book::{self, Book};
use super::client::{self, Client, ask};
use super::figures::Seen;
use super::instance::{Instance, Words};
use super::trouble::{self, Processes};

/// What a run is made from.
struct Run {
    name: &'static str,
    seed: u64,
    time: Duration,
    words: Words,
    client: Client,
}

impl Run {
    fn new(name: &'static str) -> Self {
        let number = |variable| {
            std::env::var(variable)
                .ok()
                .map(|value| value.parse().unwrap())
        };
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        let seed = number("LEDGER_SEED").unwrap_or(now.as_nanos() as u64);
        let seconds = number("LEDGER_SECONDS").unwrap_or(30);
        println!("{name}: {seconds} s, LEDGER_SEED={seed}");
        Self {
            name,
            seed,
            time: Duration::from_secs(seconds),
            words: Words::default(),
            client: Client {
                addresses: Arc::default(),
                seed,
                end: Instant::now(),
                seen: Arc::default(),
            },
        }
    }

    /// Starts the processes of the bank. The time runs from here on.
    fn processes(&mut self, url: &str) -> Arc<Processes> {
        let processes = Processes::start(url, self.seed, &self.words);
        *self.client.addresses.lock().unwrap() = processes.addresses();
        self.client.end = Instant::now() + self.time;
        Arc::new(processes)
    }

    /// Lets clients work until the time is over, and then finish what they are at; returns how many
    /// operations that was.
    async fn operate(&self) -> u64 {
        let next = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (client, next) = (self.client.clone(), Arc::clone(&next));
            clients.spawn(async move {
                while Instant::now() < client.end {
                    let operation = next.fetch_add(1, Ordering::SeqCst);
                    client.operate(operation).await;
                }
            });
        }
        clients.join_all().await;
        next.load(Ordering::SeqCst)
    }

    /// Asks for each operation once more, when nothing else goes on.
    async fn ask_again(&self, url: &str, operations: u64) {
        let instance = Instance::start(url, self.seed, &Words::default());
        let (address, next) = (instance.address(), Arc::new(AtomicU64::new(0)));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (seen, next) = (Arc::clone(&self.client.seen), Arc::clone(&next));
            clients.spawn(async move {
                loop {
                    let operation = next.fetch_add(1, Ordering::SeqCst);
                    if operation >= operations {
                        return;
                    }
                    let answer = ask(address, "transfers", operation, "").await;
                    let replayed = answer.as_ref().ok().filter(|answer| answer.is_replay());
                    match replayed.and_then(|answer| client::entry(operation, answer)) {
                        Some(entry) => seen.successes.lock().unwrap().push((operation, entry)),
                        None => seen.violated(format!("at last, {operation} got {answer:?}")),
                    }
                }
            });
        }
        clients.join_all().await;
    }

    /// Compares what was answered with what is in the book, and prints what has happened.
    fn conclude(self, operations: u64, book: &Book, cuts: &str) {
        let (name, seen): (_, &Seen) = (self.name, &self.client.seen);
        let successes = std::mem::take(&mut *seen.successes.lock().unwrap());
        for (operation, entry) in &successes {
            if book.operation(*entry) != Some(*operation) {
                seen.violated(format!(
                    "operation {operation} was answered with entry {entry}, which is not its"
                ));
            }
        }
        let mut violations = seen.take_violations();
        violations.extend(book.violations(operations));
        let of = |word| self.words.count(word);
        println!(
            "{name}: {operations} operations, {} runs, {} claims that failed or that nobody waited for, \
             {} runs with another transaction, {} fenced off; {} successes told",
            of("run"),
            of("unclaimed"),
            of("another transaction"),
            of("fenced"),
            successes.len(),
        );
        seen.print(name);
        println!("{name}:   {cuts}");
        println!("{name}: {} violations", violations.len());
        for violation in violations.iter().take(20) {
            println!("{name}: VIOLATED: {violation}");
        }
        assert!(violations.is_empty(), "{name}: LEDGER_SEED={}", self.seed);
        assert!(operations > 0);
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn with_postgres_each_operation_is_in_the_ledger_once_and_each_answer_is_its() {
    use sqlx::Postgres;

    use super::proxy::Proxy;
    use super::server::Server;

    let Some(mut server) = Server::start("each_operation_is_in_the_ledger_once") else {
        return;
    };
    let mut run = Run::new("postgres");
    let url = server.url();
    book::open::<Postgres>(&url).await;
    let proxy = Proxy::before(server.address(), run.seed).await;
    let processes = run.processes(&proxy.url());
    let (operations, (), ()) = tokio::join!(
        run.operate(),
        trouble::of_processes(Arc::clone(&processes), run.client.clone()),
        async {
            trouble::of_the_server(&mut server, &run.client).await;
            proxy.cut_no_more();
        },
    );
    drop(processes);
    nobody_is_at_work(&url).await;
    run.ask_again(&url, operations).await;
    let cuts = proxy.cuts();
    let of = |counter: &std::sync::atomic::AtomicUsize| counter.load(Ordering::SeqCst);
    let cuts = format!(
        "cut: {} commits before the server had them, {} before it could answer, {} that it had \
         late; {} other messages",
        of(&cuts.before),
        of(&cuts.after),
        of(&cuts.late),
        of(&cuts.elsewhere),
    );
    run.conclude(operations, &Book::read::<Postgres>(&url).await, &cuts);
}

/// Waits until what the killed processes have begun is over.
#[cfg(feature = "postgres")]
async fn nobody_is_at_work(url: &str) {
    use sqlx::Connection;

    use super::engine::Engine;

    let start = Instant::now();
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    loop {
        let sql = "SELECT count(*) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let others = <sqlx::Postgres as Engine>::ask::<1>(&mut connection, sql.to_owned()).await;
        if others.unwrap() == [[0]] {
            return;
        }
        assert!(
            start.elapsed() < support::PATIENCE,
            "a session does not end"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn with_sqlite_each_operation_is_in_the_ledger_once_and_each_answer_is_its() {
    use sqlx::Sqlite;

    let mut run = Run::new("sqlite");
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("bank.db").display());
    book::open::<Sqlite>(&url).await;
    let processes = run.processes(&url);
    let (operations, ()) = tokio::join!(
        run.operate(),
        trouble::of_processes(Arc::clone(&processes), run.client.clone()),
    );
    drop(processes);
    run.ask_again(&url, operations).await;
    run.conclude(
        operations,
        &Book::read::<Sqlite>(&url).await,
        "nothing to cut",
    );
}

const CLIENTS: usize = 32;
