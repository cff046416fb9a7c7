//! What the SQL stores cost beside the database's own statements: `cargo bench
//! -p benches --features sql --bench sql`.
//!
//! PostgreSQL is the one that `DATABASE_URL` names, and `POOLER_URL` names a PgBouncer before it, if
//! there is one; SQLite is a file in a temporary folder. A first
//! write (a claim and its completion) stands beside one plain `INSERT` of a row of the same size, a
//! replay beside one `SELECT` by the primary key, each through a pool of the same driver with the
//! same settings. The two take turns in short rounds, since a machine is not equally fast all the
//! time; a ratio is that of the medians over all rounds.
//!
//! Before these come first writes through the layer, with the record in the handler's transaction and
//! without; `-- first-write` measures nothing else.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::unwrap_used, reason = "what can't go on ends here")]

mod first_write;

use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, SqlitePool};
use tokio::task::JoinSet;
use tower_idempotency::store::{
    Begin, Claim, Fingerprint, Owner, Ownership, Record, RecordKey, Store,
};
use tower_idempotency::{PostgresStore, SqliteStore};

#[tokio::main]
async fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    // Any other argument asks for the first writes through the layer alone.
    let is_whole = std::env::args()
        .skip(1)
        .all(|argument| argument == "--bench");
    match std::env::var("DATABASE_URL") {
        Ok(url) => first_write::postgres(&url).await,
        Err(_) => println!("PostgreSQL is left out: set DATABASE_URL"),
    }
    first_write::sqlite().await;
    if !is_whole {
        return;
    }
    println!("store        body   in flight   step          store      plain      ratio");
    match std::env::var("DATABASE_URL") {
        Ok(url) => postgres(&url).await,
        Err(_) => println!("PostgreSQL is left out: set DATABASE_URL"),
    }
    sqlite().await;
}

async fn postgres(url: &str) {
    let plain = PgPoolOptions::new()
        .test_before_acquire(false)
        .connect(url)
        .await
        .unwrap();
    let store = PostgresStore::connect(url).await.unwrap();
    let store = store.table("idempotency_bench");
    for table in ["idempotency_bench", "idempotency_bench_plain"] {
        let drop = sqlx::AssertSqlSafe(format!("DROP TABLE IF EXISTS {table}"));
        sqlx::raw_sql(drop).execute(&plain).await.unwrap();
    }
    store.migrate().await.unwrap();
    let table =
        "CREATE TABLE idempotency_bench_plain (key bytea PRIMARY KEY, entry bytea NOT NULL)";
    sqlx::raw_sql(table).execute(&plain).await.unwrap();
    let statements = Plain::Postgres(plain.clone());
    compare("postgres", &store, &statements).await;
    let simple = store.clone().simple_protocol(true);
    compare("pg simple", &simple, &statements).await;
    match std::env::var("POOLER_URL") {
        Ok(url) => pooler(&url, &statements).await,
        Err(_) => println!("PgBouncer is left out: set POOLER_URL"),
    }
    let drop = "DROP TABLE idempotency_bench, idempotency_bench_plain";
    sqlx::raw_sql(drop).execute(&plain).await.unwrap();
}

/// The plain statements do not go through the pooler, so that a ratio has the pooler's cost in it.
async fn pooler(url: &str, plain: &Plain) {
    let store = PostgresStore::connect(url).await.unwrap();
    let store = store.table("idempotency_bench");
    if store.check().await.is_ok() {
        compare("pgbouncer", &store, plain).await;
    }
    compare("pgb simple", &store.simple_protocol(true), plain).await;
}

async fn sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("plain.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    // One connection, since SQLite's own way to wait for another writer is a slow one.
    let plain = SqlitePoolOptions::new()
        .max_connections(1)
        .test_before_acquire(false)
        .connect_with(options)
        .await
        .unwrap();
    let table = "CREATE TABLE plain (key BLOB PRIMARY KEY NOT NULL, entry BLOB NOT NULL)";
    sqlx::raw_sql(table).execute(&plain).await.unwrap();
    let store = SqliteStore::open(folder.path().join("store.db"))
        .await
        .unwrap();
    store.migrate().await.unwrap();
    // Makes the reserve, at which each write looks.
    store.clean().await.unwrap();
    compare("sqlite", &store, &Plain::Sqlite(plain)).await;
}

/// Compares a store with plain statements, for small and large bodies, alone and in a crowd.
async fn compare<S: Store + Clone>(name: &str, store: &S, plain: &Plain) {
    for body in [256, 64 * 1024] {
        for in_flight in [1, 16] {
            let mut samples = [const { Vec::new() }; 4];
            for _ in 0..ROUNDS {
                let record = record(body);
                let keys: Vec<_> = (0..STEPS).map(|_| fresh_key()).collect();
                let first_write = {
                    let (store, record) = (store.clone(), record.clone());
                    move |key| {
                        let (store, record) = (store.clone(), record.clone());
                        async move {
                            let claim = claim();
                            let begun = store.begin(&key, &claim, MINUTE).await.unwrap();
                            assert!(matches!(begun, Begin::Started));
                            let owner = claim.owner();
                            let held = store.complete(&key, owner, &record, HOUR).await;
                            assert_eq!(held.unwrap(), Ownership::Held);
                        }
                    }
                };
                let replay = {
                    let store = store.clone();
                    move |key| {
                        let store = store.clone();
                        async move {
                            let begun = store.begin(&key, &claim(), MINUTE).await.unwrap();
                            assert!(matches!(begun, Begin::Completed(_)));
                        }
                    }
                };
                let insert = {
                    let plain = plain.clone();
                    move |key| {
                        let (plain, record) = (plain.clone(), record.clone());
                        async move { plain.insert(key, &record).await }
                    }
                };
                let select = {
                    let plain = plain.clone();
                    move |key| {
                        let plain = plain.clone();
                        async move { plain.select(key).await }
                    }
                };
                samples[0].push(run(&keys, in_flight, first_write).await);
                samples[1].push(run(&keys, in_flight, insert).await);
                samples[2].push(run(&keys, in_flight, replay).await);
                samples[3].push(run(&keys, in_flight, select).await);
            }
            let medians = samples.map(median);
            for (step, of_store, of_plain) in [
                ("first write", medians[0], medians[1]),
                ("replay", medians[2], medians[3]),
            ] {
                println!(
                    "{name:<10} {body:>6}   {in_flight:>9}   {step:<11} {:>7.1}µs  {:>7.1}µs   {:>6.2}",
                    of_store.as_secs_f64() * 1e6,
                    of_plain.as_secs_f64() * 1e6,
                    of_store.as_secs_f64() / of_plain.as_secs_f64()
                );
            }
        }
    }
}

/// Takes a step for each key, this many at once, and returns the time that one took on average.
async fn run<F>(keys: &[RecordKey], in_flight: usize, step: impl Fn(RecordKey) -> F) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
{
    let start = Instant::now();
    let mut running = JoinSet::new();
    for key in keys {
        if running.len() == in_flight {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(step(*key));
    }
    running.join_all().await;
    start.elapsed() / keys.len() as u32
}

/// The same rows without claims.
#[derive(Clone)]
enum Plain {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Plain {
    async fn insert(&self, key: RecordKey, record: &Record) {
        let (key, entry) = (&key.as_bytes()[..], &record.as_bytes()[..]);
        match self {
            Self::Postgres(pool) => {
                let sql = "INSERT INTO idempotency_bench_plain VALUES ($1, $2)";
                let query = sqlx::query(sql).bind(key).bind(entry);
                query.execute(pool).await.unwrap();
            }
            Self::Sqlite(pool) => {
                let query = sqlx::query("INSERT INTO plain VALUES (?1, ?2)");
                query.bind(key).bind(entry).execute(pool).await.unwrap();
            }
        }
    }

    async fn select(&self, key: RecordKey) {
        let key = &key.as_bytes()[..];
        let entry: Vec<u8> = match self {
            Self::Postgres(pool) => {
                let sql = "SELECT entry FROM idempotency_bench_plain WHERE key = $1";
                let query = sqlx::query_scalar(sql).bind(key);
                query.fetch_one(pool).await.unwrap()
            }
            Self::Sqlite(pool) => {
                let query = sqlx::query_scalar("SELECT entry FROM plain WHERE key = ?1");
                query.bind(key).fetch_one(pool).await.unwrap()
            }
        };
        assert!(!entry.is_empty());
    }
}

/// A response with a body of words, as JSON is: a database may compress it.
fn record(body: usize) -> Record {
    let words =
        b"{\"id\":4711,\"name\":\"web-1\",\"address\":\"192.0.2.17\",\"note\":\"over the dog\"},";
    let body: Vec<u8> = words.iter().copied().cycle().take(body).collect();
    let fingerprint = Fingerprint::from_bytes([1; 32]);
    Record::new(
        fingerprint,
        StatusCode::CREATED,
        &HeaderMap::new(),
        Some(&body),
    )
}

fn claim() -> Claim {
    Claim::new(Owner::new(), Fingerprint::from_bytes([1; 32]))
}

/// A key that is random as hashes are.
fn fresh_key() -> RecordKey {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    bytes[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    RecordKey::from_bytes(bytes)
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort();
    samples[samples.len() / 2]
}

const ROUNDS: usize = 11;
const STEPS: usize = 64;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
