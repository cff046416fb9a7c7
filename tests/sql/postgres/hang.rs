//! A server that answers, and hangs at what it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};
use tower_idempotency::PostgresStore;
use tower_idempotency::store::{Begin, Store, StoreErrorKind};

use super::server::Server;
use crate::entry::{MINUTE, claim, key, must_start};

/// What a fault is called, what brings it about on a connection that stays open, and what ends it.
const FAULTS: [(&str, &[&str], &[&str]); 3] = [
    (
        "a locked table",
        &["BEGIN", "LOCK TABLE idempotency"],
        &["ROLLBACK"],
    ),
    (
        "a lost synchronous standby",
        &[
            "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
            "SELECT pg_reload_conf()",
        ],
        &[
            "SET synchronous_commit = local",
            "ALTER SYSTEM RESET synchronous_standby_names",
            "SELECT pg_reload_conf()",
        ],
    ),
    (
        "an index that is made",
        &["BEGIN", "CREATE INDEX slow ON idempotency (entry)"],
        &["ROLLBACK"],
    ),
];

/// What a request waits for the store.
const WAIT: Duration = Duration::from_millis(300);

const REQUESTS: usize = 300;

async fn run(connection: &mut PgConnection, statements: &[&str]) {
    for sql in statements {
        let sql = AssertSqlSafe((*sql).to_owned());
        connection.execute(sqlx::raw_sql(sql)).await.unwrap();
    }
}

/// Counts the store's sessions at the server, again and again, and returns the greatest number.
async fn most_sessions(mut connection: PgConnection, stop: Arc<AtomicBool>) -> i64 {
    let mut most = 0;
    while !stop.load(Ordering::SeqCst) {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'store'";
        let count = sqlx::query_scalar(sql).fetch_one(&mut connection);
        most = most.max(count.await.unwrap());
        sleep(Duration::from_millis(10)).await;
    }
    most
}

async fn hangs(server: &Server, store: PostgresStore, limit: i64, which: &str) {
    let mut table = PgConnection::connect(&server.url()).await.unwrap();
    let mut next = 0;
    let mut fresh = || {
        next += 1;
        key(next)
    };
    for (fault, begins, ends) in FAULTS {
        run(&mut table, &["DELETE FROM idempotency"]).await;
        must_start(store.begin(&fresh(), &claim(), MINUTE).await);
        let stop = Arc::new(AtomicBool::new(false));
        let counter = PgConnection::connect(&server.url()).await.unwrap();
        let most = tokio::spawn(most_sessions(counter, Arc::clone(&stop)));
        run(&mut table, begins).await;
        // A setting is not there at once.
        let start = Instant::now();
        while let Ok(begun) = timeout(WAIT, store.begin(&fresh(), &claim(), MINUTE)).await {
            assert!(start.elapsed() < MINUTE, "{fault}: {begun:?}");
        }

        let mut ticks = interval(Duration::from_millis(5));
        let mut requests = JoinSet::new();
        for _ in 0..REQUESTS {
            ticks.tick().await;
            let (store, key) = (store.clone(), fresh());
            requests.spawn(async move {
                let claim = claim();
                let begun = timeout(WAIT, store.begin(&key, &claim, MINUTE)).await;
                begun.map(|begun| begun.map_err(|error| error.kind()))
            });
        }
        let answers = requests.join_all().await;
        let at_once = answers
            .iter()
            .filter(|answer| matches!(answer, Ok(Err(StoreErrorKind::Unavailable))))
            .count();
        let waited = answers.iter().filter(|answer| answer.is_err()).count();
        assert_eq!(at_once + waited, REQUESTS, "{fault}: {answers:?}");
        // From some moment on, nobody waits.
        let (unused, claim) = (fresh(), claim());
        let begun = store.begin(&unused, &claim, MINUTE);
        let begun = timeout(Duration::from_secs(20), begun).await;
        let begun = begun.expect("an answer at once");
        assert_eq!(begun.unwrap_err().kind(), StoreErrorKind::Unavailable);

        let ended = Instant::now();
        run(&mut table, ends).await;
        while !matches!(
            store.begin(&fresh(), &claim, MINUTE).await,
            Ok(Begin::Started)
        ) {
            assert!(ended.elapsed() < MINUTE, "{fault}: not used again");
            sleep(Duration::from_millis(5)).await;
        }
        let back = ended.elapsed();
        stop.store(true, Ordering::SeqCst);
        let most = most.await.unwrap();
        println!(
            "PostgreSQL, {fault}, {which}: of {REQUESTS} requests, {at_once} were answered at once and \
             {waited} after {WAIT:?}; {most} sessions of at most {limit}; used again after {back:?}"
        );
        assert!(most <= limit, "{fault}: {most} sessions");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_hangs_the_store_has_never_more_connections_than_it_may() {
    let Some(server) = Server::start("whatever_hangs_the_store_has_never_more") else {
        return;
    };
    let url = format!("{}?application_name=store", server.url());
    let store = PostgresStore::connect(&url).await.unwrap();
    store.migrate().await.unwrap();
    hangs(&server, store, 10, "its own connections").await;

    let how: PgConnectOptions = url.parse().unwrap();
    let pool = PgPoolOptions::new()
        .max_connections(5)
        .connect_lazy_with(how);
    hangs(&server, PostgresStore::new(pool.clone()), 5, "as a pool").await;
    // One more looks at the server.
    hangs(&server, PostgresStore::sharing(pool), 6, "a shared pool").await;
}
