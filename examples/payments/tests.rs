//! Kills the bank where it hurts, starts it again, and asks again.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The process that a test has started.
#[test]
fn bank() {
    if std::env::var_os(IS_BANK).is_none() {
        return;
    }
    // The test's end of the pipe closes when the test ends, however it does.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    super::main().unwrap();
}

const IS_BANK: &str = "TEST_IS_BANK";

struct Bank {
    process: Child,
    address: String,
}

struct Answer {
    status: u16,
    is_replay: bool,
    body: Value,
}

impl Bank {
    fn start(url: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            // The first one is where to listen, and no test's name.
            .args(["127.0.0.1:0", "tests::bank", "--exact", "--nocapture"])
            .env(IS_BANK, "yes")
            .env("DATABASE_URL", url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let begin = "A bank listens on http://";
        let address = loop {
            let line = lines.next().expect("the bank starts").unwrap();
            if let Some(rest) = line.strip_prefix(begin) {
                break rest.split_once(". ").unwrap().0.to_owned();
            }
        };
        // What it logs must go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address }
    }

    /// Sends a request, and returns the answer unless the bank has crashed.
    fn ask(&self, head: &str, body: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = format!(
            "{head}\r\nhost: bank\r\nx-api-key: alice-key\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        // A crash may reset the connection.
        let _ = stream.read_to_string(&mut answer);
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some(Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            is_replay: head.contains("idempotency-replayed: true"),
            body: serde_json::from_str(body).unwrap(),
        })
    }

    /// Posts a transfer under a key, with a line of the head such as `x-crash`.
    fn post(&self, key: &str, line: &str, (from, to, amount): (&str, &str, i64)) -> Option<Answer> {
        let head = format!("POST /transfers HTTP/1.1\r\nidempotency-key: {key}{line}");
        let body = serde_json::json!({ "from": from, "to": to, "amount": amount });
        self.ask(&head, &body.to_string())
    }

    fn has_crashed(mut self) {
        assert!(!self.process.wait().unwrap().success());
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const RENT: (&str, &str, i64) = ("alice", "bob", 10);

fn transfers_happen_once(url: &str) {
    let bank = Bank::start(url);
    let first = bank.post("rent-1", "", RENT).unwrap();
    assert_eq!((first.status, first.is_replay), (201, false));
    let again = bank.post("rent-1", "", RENT).unwrap();
    assert_eq!((again.status, again.is_replay), (201, true));
    assert_eq!(again.body, first.body);
    for (n, refused) in [
        ("alice", "bob", 0),
        ("alice", "bob", -5),
        ("alice", "bob", 1_000_001),
        ("alice", "bob", i64::MAX),
        ("alice", "bob", 991),
        ("alice", "alice", 1),
        ("alice", "nobody", 1),
        ("nobody", "alice", 1),
        ("carol", "bob", 1),
    ]
    .into_iter()
    .enumerate()
    {
        for is_replay in [false, true] {
            let answer = bank.post(&format!("refused-{n}"), "", refused).unwrap();
            let told = (answer.status, answer.is_replay);
            assert_eq!(told, (422, is_replay), "{refused:?}");
        }
    }

    let crash = "\r\nx-crash: after-commit";
    assert!(bank.post("rent-2", crash, RENT).is_none());
    bank.has_crashed();
    let bank = Bank::start(url);
    let kept = bank.post("rent-2", crash, RENT).unwrap();
    assert_eq!((kept.status, kept.is_replay), (201, true));
    assert_ne!(kept.body["id"], first.body["id"]);

    assert!(
        bank.post("rent-3", "\r\nx-crash: before-commit", RENT)
            .is_none()
    );
    bank.has_crashed();
    let bank = Bank::start(url);
    let start = Instant::now();
    let ran = loop {
        let answer = bank.post("rent-3", "", RENT).unwrap();
        if answer.status != 409 {
            break answer;
        }
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!((ran.status, ran.is_replay), (201, false));

    let found = bank.ask("GET /accounts HTTP/1.1", "").unwrap().body;
    let expected = serde_json::json!({
        "accounts": { "alice": 970, "bob": 1_030, "carol": 0 }, "sum": 2_000, "is_right": true,
    });
    assert_eq!(found, expected);
}

#[test]
fn with_sqlite_a_transfer_happens_once_although_the_bank_crashes() {
    let name = format!("payments-test-{}.db", std::process::id());
    let path = std::env::temp_dir().join(name);
    let path = path.to_str().unwrap();
    transfers_happen_once(&format!("sqlite:{path}"));
    for suffix in ["", "-wal", "-shm", "-reserve"] {
        let _ = std::fs::remove_file(format!("{path}{suffix}"));
    }
}

#[cfg(feature = "postgres")]
#[test]
fn with_postgres_a_transfer_happens_once_although_the_bank_crashes() {
    let Ok(url) = std::env::var("DATABASE_URL") else {
        assert!(std::env::var_os("SERVERS_REQUIRED").is_none());
        let line = b"\nleft out: payments with PostgreSQL: set DATABASE_URL, or run tests/run.sh\n";
        return std::io::stderr().write_all(line).unwrap();
    };
    // A schema of its own.
    let schema = format!("payments_test_{}", std::process::id());
    let ask = |sql: String| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            use sqlx::{Connection, Executor};

            let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
            let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
            connection.execute(sql).await.unwrap();
        });
    };
    ask(format!("CREATE SCHEMA {schema}"));
    let joint = if url.contains('?') { '&' } else { '?' };
    transfers_happen_once(&format!("{url}{joint}options[search_path]={schema}"));
    ask(format!("DROP SCHEMA {schema} CASCADE"));
}
