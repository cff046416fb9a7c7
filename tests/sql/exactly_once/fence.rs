//! A process that stands still for longer than its lease, where it hurts most, and another that is asked
//! meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use support::{Answer, PATIENCE, soon};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::book::{self, Book};
use super::client::{Broken, ask, entry};
use super::engine::Engine;
use super::instance::{Instance, LEASE, Words};

/// Where a process stops, what becomes of it, and what must come of that.
struct Case {
    at: &'static str,
    /// Whether another one can do the operation while it stands still.
    is_taken_over: bool,
    /// Whether it goes on, or is killed.
    goes_on: bool,
    /// What its client is answered.
    answer: Option<u16>,
}

/// With PostgreSQL, an entry keeps no other from writing, but a record does.
#[cfg(feature = "postgres")]
static POSTGRES: [Case; 7] = [
    Case::new("before the transaction", true, true, Some(409)),
    Case::new("before the record", true, true, Some(409)),
    Case::new("before the record", true, false, None),
    Case::new("before the commit", false, true, Some(201)),
    Case::new("before the commit", false, false, None),
    Case::new("after the commit", true, true, Some(201)),
    Case::new("after the commit", true, false, None),
];

/// With SQLite, whoever writes keeps all others from writing.
#[cfg(feature = "sqlite")]
static SQLITE: [Case; 7] = [
    Case::new("before the transaction", true, true, Some(409)),
    Case::new("before the record", false, true, Some(201)),
    Case::new("before the record", false, false, None),
    Case::new("before the commit", false, true, Some(201)),
    Case::new("before the commit", false, false, None),
    Case::new("after the commit", true, true, Some(201)),
    Case::new("after the commit", true, false, None),
];

impl Case {
    const fn new(
        at: &'static str,
        is_taken_over: bool,
        goes_on: bool,
        answer: Option<u16>,
    ) -> Self {
        Self {
            at,
            is_taken_over,
            goes_on,
            answer,
        }
    }
}

/// Plays all cases at once, each an operation of its own, at the database that is named for it.
async fn play_all<DB: Engine>(cases: &'static [Case], url: impl Fn(usize) -> String) {
    let mut playing = JoinSet::new();
    for (n, case) in cases.iter().enumerate() {
        let url = url(n);
        playing.spawn(async move { play::<DB>(&url, n as u64, case).await });
    }
    playing.join_all().await;
}

/// Plays a case, and prints what has happened.
async fn play<DB: Engine>(url: &str, operation: u64, case: &Case) {
    let at = case.at;
    let (words, others) = (Words::default(), Words::default());
    let mut first = Instance::start(url, 1, &words);
    let other = Instance::start(url, 1, &others);
    let (address, line) = (first.address(), format!("x-stand: {at}"));
    let asked = tokio::spawn(async move { ask(address, "entries", operation, &line).await });
    eventually(|| words.count("stands") > 0).await;
    first.stop();
    eventually(|| first.is_stopped()).await;
    // It finds this when it goes on.
    first.go();
    let start = Instant::now();
    let retry = tokio::spawn(ask_until_answered(other.address(), operation));
    let retried = if case.is_taken_over {
        let retried = soon(retry).await.unwrap();
        assert!(!asked.is_finished(), "{at}: it goes on");
        // Longer than a lease, also where the answer was there at once.
        sleep((start + 2 * LEASE).saturating_duration_since(Instant::now())).await;
        Ok(retried)
    } else {
        // The lease is over, and the handler has run, as nothing keeps it from that.
        eventually(|| others.count("run") > 0).await;
        sleep(LEASE).await;
        assert!(!retry.is_finished(), "{at}: another has done it");
        Err(retry)
    };
    if case.goes_on {
        first.resume();
    } else {
        first.kill();
    }
    let answer = match soon(asked).await.unwrap() {
        Ok(answer) => {
            assert!(answer.status != 409 || answer.headers.contains_key("retry-after"));
            Some(answer)
        }
        Err(Broken::Broke) => None,
        Err(Broken::Refused) => panic!("{at}: refused"),
    };
    let status = answer.as_ref().map(|answer| answer.status.as_u16());
    assert_eq!(status, case.answer, "{at}: {answer:?}");
    let (tries, retried) = match retried {
        Ok(retried) => retried,
        Err(retry) => soon(retry).await.unwrap(),
    };
    let told = entry(operation, &retried).unwrap();
    if let Some(answer) = answer.filter(|answer| answer.status == 201) {
        assert_eq!(entry(operation, &answer), Some(told), "{at}");
        assert!(retried.is_replay(), "{at}");
    }
    // Whoever asks at last gets the same.
    let (_, last) = soon(ask_until_answered(other.address(), operation)).await;
    assert!(last.is_replay(), "{at}: {last:?}");
    assert_eq!(entry(operation, &last), Some(told), "{at}");
    let book = Book::read::<DB>(url).await;
    assert_eq!(book.times(operation), 1, "{at}");
    let end = if case.goes_on {
        "went on"
    } else {
        "was killed"
    };
    println!(
        "stopped {at}: it {end}, its client got {status:?}; the other's got {tries:?} and 201"
    );
}

/// Waits for what another process does.
async fn eventually(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "this takes too long: it hangs");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Asks until there is a success, and returns the statuses before it, each once in a row.
async fn ask_until_answered(address: SocketAddr, operation: u64) -> (Vec<u16>, Answer<Bytes>) {
    let mut before: Vec<u16> = Vec::new();
    loop {
        let answer = ask(address, "entries", operation, "").await.unwrap();
        match answer.status.as_u16() {
            201 => return (before, answer),
            status @ (409 | 502 | 503) if before.last() == Some(&status) => {}
            status @ (409 | 502 | 503) => before.push(status),
            status => panic!("{status}: {answer:?}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn with_postgres_a_process_that_was_stopped_can_not_commit_what_another_has_done() {
    use super::server::Server;

    let Some(server) = Server::start("a_process_that_was_stopped_can_not_commit") else {
        return;
    };
    let url = server.url();
    book::open::<sqlx::Postgres>(&url).await;
    play_all::<sqlx::Postgres>(&POSTGRES, |_| url.clone()).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn with_sqlite_a_process_that_was_stopped_can_not_commit_what_another_has_done() {
    let folder = tempfile::tempdir().unwrap();
    let url = |n| format!("sqlite:{}", folder.path().join(format!("{n}.db")).display());
    for n in 0..SQLITE.len() {
        book::open::<sqlx::Sqlite>(&url(n)).await;
    }
    play_all::<sqlx::Sqlite>(&SQLITE, url).await;
}
