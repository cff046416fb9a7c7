//! What a first write costs through the layer, with its record in the handler's own transaction and
//! without.
//!
//! The handler inserts a row and commits. It is called by itself (bare), through a layer that keeps its
//! response afterwards (after), and through one with `transactional()`, where the record is kept in the
//! handler's transaction (inside). By hand is what no such handler can do without: a row that is inserted
//! before, by a plain statement that does not wait for the disk, and updated in the transaction. The last
//! one for SQLite (sharing) is as inside, with a store that uses the handler's own connection.
//!
//! They take turns in short rounds. A latency is the median over all requests of all rounds.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, Row, SqlitePool};
use tokio::task::JoinSet;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_idempotency::store::TransactionalStore;
use tower_idempotency::{IdempotencyLayer, PostgresStore, SqliteStore, Transactional};

use crate::{ROUNDS, STEPS, median};

pub(crate) async fn postgres(url: &str) {
    let pool = PgPoolOptions::new()
        .max_connections(16)
        .min_connections(16)
        .test_before_acquire(false)
        .connect(url)
        .await
        .unwrap();
    let row = "SELECT current_setting('server_version'), current_setting('fsync'),
        current_setting('synchronous_commit'), current_setting('data_directory')";
    let row = sqlx::query(row).fetch_one(&pool).await.unwrap();
    let [version, fsync, commit, data] = [0, 1, 2, 3].map(|column| row.get::<String, _>(column));
    println!("PostgreSQL {version}: fsync {fsync}, synchronous_commit {commit}, data in {data}");
    if fsync != "on" {
        println!("this server does not wait for its disk, which is what the ratios are about");
    }
    let store = PostgresStore::connect(url).await.unwrap();
    let store = store.table("idempotency_bench");
    let drop = "DROP TABLE IF EXISTS idempotency_bench, idempotency_bench_effects,
        idempotency_bench_by_hand";
    sqlx::raw_sql(drop).execute(&pool).await.unwrap();
    store.migrate().await.unwrap();
    let table =
        "CREATE TABLE idempotency_bench_effects (id bytea PRIMARY KEY, amount bigint NOT NULL)";
    sqlx::raw_sql(table).execute(&pool).await.unwrap();
    let table =
        "CREATE TABLE idempotency_bench_by_hand (key bytea PRIMARY KEY, entry bytea NOT NULL)";
    sqlx::raw_sql(table).execute(&pool).await.unwrap();
    let how: PgConnectOptions = url.parse().unwrap();
    let hurried = PgPoolOptions::new()
        .test_before_acquire(false)
        .connect_with(how.options([("synchronous_commit", "off")]))
        .await
        .unwrap();
    let mut contenders = contenders(store, Postgres(pool.clone()));
    contenders.push(("by hand", by_hand(pool.clone(), hurried)));
    compare("postgres", &contenders).await;
    count_syncs(&pool, &contenders).await;
    sqlx::raw_sql(drop).execute(&pool).await.unwrap();
}

pub(crate) async fn sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("application.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.migrate().await.unwrap();
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::ZERO);
    // One connection, since SQLite's own way to wait for another writer is a slow one.
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .test_before_acquire(false)
        .connect_with(options)
        .await
        .unwrap();
    let table = "CREATE TABLE effects (id BLOB PRIMARY KEY NOT NULL, amount INTEGER NOT NULL)";
    sqlx::raw_sql(table).execute(&pool).await.unwrap();
    println!("SQLite: synchronous FULL, in {}", path.display());
    let mut all = contenders(store, Sqlite(pool.clone()));
    let sharing = contenders(SqliteStore::new(pool.clone()), Sqlite(pool));
    let sharing = sharing.into_iter().filter(|(name, _)| *name == "inside");
    all.extend(sharing.map(|(_, contender)| ("sharing", contender)));
    compare("sqlite", &all).await;
}

type Contender = BoxCloneSyncService<Request<Full<Bytes>>, StatusCode, Infallible>;

/// An application whose handler has an effect in a transaction.
trait Application: Clone + Send + Sync + 'static {
    type Store: TransactionalStore + Clone;

    /// Has an effect, and keeps this response in its transaction if that can be.
    fn handle(
        &self,
        keep: Option<Transactional<Self::Store>>,
        response: Response<Full<Bytes>>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

#[derive(Clone)]
struct Postgres(PgPool);

impl Application for Postgres {
    type Store = PostgresStore;

    async fn handle(
        &self,
        keep: Option<Transactional<PostgresStore>>,
        mut response: Response<Full<Bytes>>,
    ) -> Response<Full<Bytes>> {
        let mut transaction = self.0.begin().await.unwrap();
        let insert = sqlx::query("INSERT INTO idempotency_bench_effects VALUES ($1, 100)");
        let insert = insert.bind(uuid::Uuid::new_v4().as_bytes().to_vec());
        insert.execute(&mut *transaction).await.unwrap();
        if let Some(keep) = keep {
            response = keep
                .in_transaction(&mut transaction, response)
                .await
                .unwrap();
        }
        transaction.commit().await.unwrap();
        response
    }
}

#[derive(Clone)]
struct Sqlite(SqlitePool);

impl Application for Sqlite {
    type Store = SqliteStore;

    async fn handle(
        &self,
        keep: Option<Transactional<SqliteStore>>,
        mut response: Response<Full<Bytes>>,
    ) -> Response<Full<Bytes>> {
        let mut transaction = loop {
            match self.0.begin_with("BEGIN IMMEDIATE").await {
                Ok(transaction) => break transaction,
                // Another connection writes. SQLite's own way to wait sleeps for up to a tenth of a
                // second.
                Err(sqlx::Error::Database(_)) => tokio::time::sleep(MILLISECOND).await,
                Err(error) => panic!("{error}"),
            }
        };
        let insert = sqlx::query("INSERT INTO effects VALUES (?1, 100)");
        let insert = insert.bind(uuid::Uuid::new_v4().as_bytes().to_vec());
        insert.execute(&mut *transaction).await.unwrap();
        if let Some(keep) = keep {
            response = keep
                .in_transaction(&mut transaction, response)
                .await
                .unwrap();
        }
        transaction.commit().await.unwrap();
        response
    }
}

fn contenders<A: Application>(store: A::Store, application: A) -> Vec<(&'static str, Contender)> {
    // So long that nothing runs unprotected because the machine was slow.
    let layer = IdempotencyLayer::new(store).store_timeout(MINUTE);
    let after = layer.layer(handler(application.clone()));
    let inside = layer.transactional().layer(handler(application.clone()));
    let status = |response: Response<_>| response.status();
    vec![
        (
            "bare",
            BoxCloneSyncService::new(
                handler(application).map_response(|response| response.status()),
            ),
        ),
        (
            "after",
            BoxCloneSyncService::new(after.map_response(status)),
        ),
        (
            "inside",
            BoxCloneSyncService::new(inside.map_response(status)),
        ),
    ]
}

fn handler<A: Application, B: Send + 'static>(
    application: A,
) -> impl Service<
    Request<B>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future: Future + Send + 'static,
> + Clone
+ Send
+ Sync
+ 'static {
    service_fn(move |mut request: Request<B>| {
        let application = application.clone();
        let keep = request.extensions_mut().remove();
        async move {
            let mut response = Response::new(Full::from(&BODY[..]));
            *response.status_mut() = StatusCode::CREATED;
            Ok(application.handle(keep, response).await)
        }
    })
}

/// The handler with a claim and a record of its own, as plain as can be.
fn by_hand(pool: PgPool, hurried: PgPool) -> Contender {
    BoxCloneSyncService::new(service_fn(move |_: Request<Full<Bytes>>| {
        let (pool, hurried) = (pool.clone(), hurried.clone());
        async move {
            let key = uuid::Uuid::new_v4().as_bytes().to_vec();
            let claim = "INSERT INTO idempotency_bench_by_hand VALUES ($1, '')";
            let claim = sqlx::query(claim).bind(&key[..]);
            claim.execute(&hurried).await.unwrap();
            let mut transaction = pool.begin().await.unwrap();
            let insert = sqlx::query("INSERT INTO idempotency_bench_effects VALUES ($1, 100)");
            let insert = insert.bind(&key[..]);
            insert.execute(&mut *transaction).await.unwrap();
            let record = "UPDATE idempotency_bench_by_hand SET entry = $2 WHERE key = $1";
            let record = sqlx::query(record).bind(&key[..]).bind(&BODY[..]);
            record.execute(&mut *transaction).await.unwrap();
            transaction.commit().await.unwrap();
            Ok(StatusCode::CREATED)
        }
    }))
}

/// Compares the latencies of the contenders, alone and in a crowd.
async fn compare(name: &str, contenders: &[(&'static str, Contender)]) {
    println!("store      in flight   handler   latency   ratio");
    for in_flight in [1, 16] {
        let mut samples = vec![Vec::new(); contenders.len()];
        // Shorter than the spells in which a disk or a machine is slower.
        let (rounds, number) = (6 * ROUNDS, 8 * in_flight.min(8));
        for round in 0..=rounds {
            for (samples, (_, contender)) in samples.iter_mut().zip(contenders) {
                let taken = latencies(contender, in_flight, number).await;
                // The first round warms up.
                if round > 0 {
                    samples.extend(taken);
                }
            }
        }
        let medians: Vec<_> = samples.into_iter().map(median).collect();
        for ((contender, _), latency) in contenders.iter().zip(&medians) {
            let ratio = latency.as_secs_f64() / medians[0].as_secs_f64();
            let micros = latency.as_micros();
            println!("{name:<10} {in_flight:>9}   {contender:<8} {micros:>7}µs {ratio:>7.2}");
        }
    }
}

/// Counts how often the server waits for its disk for a first write, which does not depend on the disk.
async fn count_syncs(pool: &PgPool, contenders: &[(&'static str, Contender)]) {
    let counted = async || {
        // Sessions report ten seconds after their last statement at the latest, if nothing delays them.
        tokio::time::sleep(Duration::from_secs(15)).await;
        let row = sqlx::query("SELECT wal_sync, wal_records, wal_bytes::bigint FROM pg_stat_wal");
        let row = row.fetch_one(pool).await.unwrap();
        [0, 1, 2].map(|column| row.get::<i64, _>(column))
    };
    println!("a first write, one at a time   syncs  records of the log   bytes of the log");
    let mut before = counted().await;
    for (name, contender) in contenders {
        let number = 8 * STEPS;
        latencies(contender, 1, number).await;
        let after = counted().await;
        let [syncs, records, bytes] =
            [0, 1, 2].map(|i| (after[i] - before[i]) as f64 / number as f64);
        println!("{name:<30} {syncs:>5.2} {records:>19.1} {bytes:>18.0}");
        before = after;
    }
}

/// Sends first writes, this many at once, and returns how long each took.
async fn latencies(contender: &Contender, in_flight: usize, number: usize) -> Vec<Duration> {
    let mut running = JoinSet::new();
    let mut taken = Vec::with_capacity(number);
    for _ in 0..number {
        if running.len() == in_flight {
            taken.extend(running.join_next().await.transpose().unwrap());
        }
        let contender = contender.clone();
        running.spawn(async move {
            let request = Request::post("/payments")
                .header("idempotency-key", uuid::Uuid::new_v4().to_string())
                .header("authorization", "Bearer alice")
                .body(Full::default())
                .unwrap();
            let start = Instant::now();
            let status = contender.oneshot(request).await.unwrap();
            assert_eq!(status, StatusCode::CREATED);
            start.elapsed()
        });
    }
    taken.extend(running.join_all().await);
    taken
}

const BODY: [u8; 256] = [b'x'; 256];
const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
