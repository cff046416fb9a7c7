//! A bank whose transfers happen exactly once, even if the process is killed between the commit and the
//! answer: the response is kept in the handler's own transaction.
//!
//! ```text
//! cargo run --features sqlite --example payments
//! DATABASE_URL=postgres://postgres@localhost/bank cargo run --features sqlite,postgres --example payments
//! ```
//!
//! It prints what to try, and logs what the layer did with each write. `transfer` is the handler. It is
//! generic over the database for the sake of an example with two; where there is one, it names
//! `PostgresStore` and `PgPool`, say.

use std::error::Error;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{Pool, SqlitePool};
use tokio::net::TcpListener;
use tower_idempotency::{
    IdempotencyLayer, Outcome, SqliteStore, Transactional, TransactionalError,
};
use tracing::{error, info};

use self::bank::Bank;

#[path = "payments/bank.rs"]
mod bank;

#[derive(Deserialize, Serialize)]
struct Transfer {
    from: String,
    to: String,
    amount: i64,
}

async fn transfer<DB: Bank>(
    Extension(keep): Extension<Transactional<DB::Store>>,
    State(pool): State<Pool<DB>>,
    headers: HeaderMap,
    Json(transfer): Json<Transfer>,
) -> Result<Response, AppError> {
    let mut tx = pool.begin_with(DB::BEGIN).await?;
    let id = book::<DB>(&mut tx, &transfer).await?;
    let receipt = Json(json!({ "id": id, "transfer": transfer }));
    let response = (StatusCode::CREATED, receipt).into_response();
    // An error rolls the transfer back, as `tx` is dropped.
    let response = keep.in_transaction(&mut tx, response).await?;
    crash(&headers, "before-commit");
    tx.commit().await?;
    crash(&headers, "after-commit");
    Ok(response)
}

/// Moves the money, and returns the number of the transfer.
async fn book<DB: Bank>(
    connection: &mut DB::Connection,
    transfer: &Transfer,
) -> Result<i64, AppError> {
    let Transfer { from, to, amount } = transfer;
    if !(1..=MAX_AMOUNT).contains(amount) {
        return Err(AppError::Refused(
            "the amount is not between 1 and 1,000,000",
        ));
    }
    if from == to {
        return Err(AppError::Refused("an account can't pay itself"));
    }
    // In one order, so that two transfers don't wait for each other.
    let mut changes = [(from, -amount), (to, *amount)];
    changes.sort_unstable();
    for (account, change) in changes {
        match DB::change(connection, account, change).await? {
            None => return Err(AppError::Refused("there is no such account")),
            Some(..0) => return Err(AppError::Refused("there is not enough money")),
            Some(_) => {}
        }
    }
    Ok(DB::note(connection, transfer).await?)
}

const MAX_AMOUNT: i64 = 1_000_000;

enum AppError {
    /// This answer is the last word, and so the layer keeps it, by itself: there is nothing to commit.
    Refused(&'static str),
    Database(sqlx::Error),
    NotKept(TransactionalError),
}

impl From<sqlx::Error> for AppError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<TransactionalError> for AppError {
    fn from(error: TransactionalError) -> Self {
        Self::NotKept(error)
    }
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(why) => {
                let problem = Json(json!({ "status": 422, "detail": why }));
                (StatusCode::UNPROCESSABLE_ENTITY, problem).into_response()
            }
            // If the commit has failed, the layer finds out whether it took place, and answers
            // with the kept response if it did.
            Self::Database(error) => {
                error!("the database failed: {error}");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
            // 409 or 503 with `Retry-After`, or what else the error says.
            Self::NotKept(error) => error.into(),
        }
    }
}

/// Kills the process if the request asks for it. Only an example does so.
fn crash(headers: &HeaderMap, at: &str) {
    if headers.get("x-crash").is_some_and(|crash| *crash == *at) {
        std::process::abort();
    }
}

async fn accounts<DB: Bank>(State(pool): State<Pool<DB>>) -> Result<Json<Value>, AppError> {
    Ok(Json(audit::<DB>(&mut *pool.acquire().await?).await?))
}

/// Adds all accounts up. Whatever is transferred, the sum stays what it was.
async fn audit<DB: Bank>(connection: &mut DB::Connection) -> Result<Value, sqlx::Error> {
    let accounts = DB::balances(connection).await?;
    let sum: i64 = accounts.iter().map(|(_, balance)| balance).sum();
    if sum == SUM {
        info!(sum, "the sum of all accounts is what it was");
    } else {
        error!(sum, "the sum of all accounts is not {SUM}");
    }
    let accounts: serde_json::Map<_, _> = accounts
        .into_iter()
        .map(|(name, balance)| (name, balance.into()))
        .collect();
    Ok(json!({ "accounts": accounts, "sum": sum, "is_right": sum == SUM }))
}

/// What the accounts begin with, in all.
const SUM: i64 = 2_000;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_target(false)
        .with_ansi(std::io::stdout().is_terminal())
        .init();
    let url = std::env::var("DATABASE_URL").unwrap_or_else(|_| {
        let path = std::env::temp_dir().join("payments.db");
        format!("sqlite:{}", path.display())
    });
    if let Some(path) = url.strip_prefix("sqlite:") {
        let file = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        let pool = SqlitePool::connect_with(file).await?;
        let store = SqliteStore::open(path).await?;
        store.migrate().await?;
        store.check().await?;
        tokio::spawn(store.cleaner(MINUTE));
        println!("The accounts are in {path}.");
        return serve(pool, store).await;
    }
    #[cfg(feature = "postgres")]
    {
        let pool = sqlx::PgPool::connect(&url).await?;
        let store = tower_idempotency::PostgresStore::new(pool.clone());
        store.migrate().await?;
        store.check().await?;
        tokio::spawn(store.cleaner(MINUTE));
        println!("The accounts are in PostgreSQL.");
        serve(pool, store).await
    }
    #[cfg(not(feature = "postgres"))]
    Err("DATABASE_URL names no SQLite file; for PostgreSQL, add --features sqlite,postgres".into())
}

const MINUTE: Duration = Duration::from_secs(60);

async fn serve<DB: Bank>(pool: Pool<DB>, store: DB::Store) -> Result<ExitCode, Box<dyn Error>> {
    let mut connection = pool.acquire().await?;
    DB::migrate(&mut connection).await?;
    println!("{}", audit::<DB>(&mut connection).await?);
    drop(connection);

    // The lease is short, so that whoever tries a crash need not wait for long. The default is 60
    // seconds.
    let idempotency = IdempotencyLayer::new(store)
        .transactional()
        .require_key(true)
        .lease(Duration::from_secs(5));
    let detached = idempotency.detached();
    let app = Router::new()
        .route("/transfers", post(transfer::<DB>))
        .route_layer(idempotency)
        .route("/accounts", get(accounts::<DB>))
        .layer(from_fn(log_outcome))
        .with_state(pool);

    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| format!("cannot listen on {address}: {error}"))?;
    print_what_to_try(&listener.local_addr()?.to_string());
    // First no new requests, then the connections, then the writes whose client has left.
    let serve = axum::serve(listener, app).with_graceful_shutdown(async {
        stop_signal().await;
        info!("shutting down; press Ctrl-C again to stop at once");
    });
    let drained = async {
        serve.await?;
        detached.wait(Duration::from_secs(30)).await?;
        Ok(ExitCode::SUCCESS)
    };
    let twice = async {
        stop_signal().await;
        stop_signal().await;
    };
    tokio::select! {
        ended = drained => ended,
        () = twice => Ok(ExitCode::FAILURE),
    }
}

/// Waits for Ctrl-C, or for SIGTERM, which service managers and containers send.
async fn stop_signal() {
    let stopped = async {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};

            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                _ = terminate.recv() => Ok(()),
                pressed = tokio::signal::ctrl_c() => pressed,
            }
        }
        #[cfg(not(unix))]
        tokio::signal::ctrl_c().await
    };
    // Where signals can't be listened for, the system ends the process.
    if stopped.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Logs what the layer did.
async fn log_outcome(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let outcome = Outcome::of(response.extensions());
    info!(%method, path, status = response.status().as_u16(), %outcome, "answered");
    response
}

fn print_what_to_try(address: &str) {
    let post = format!(
        "curl -i http://{address}/transfers -H 'x-api-key: alice-key' \
         -H 'content-type: application/json'"
    );
    println!(
        r#"A bank listens on http://{address}. To try in another terminal:

Transfer money. Again: the same answer, and still one transfer.
  {post} -H 'idempotency-key: rent-1' -d '{{"from":"alice","to":"bob","amount":10}}'

Look at the accounts, and their sum.
  curl http://{address}/accounts

Kill the process between the commit and the answer. Start it again, and run the same line again: it
gets the answer that was kept with the transfer, and there is one transfer.
  {post} -H 'idempotency-key: rent-2' -d '{{"from":"alice","to":"bob","amount":10}}' -H 'x-crash: after-commit'

Kill it before the commit. Start it again, and run the line without x-crash: 409 for up to five
seconds, until the lease of the dead process has ended, and then the first and only transfer.
  {post} -H 'idempotency-key: rent-3' -d '{{"from":"alice","to":"bob","amount":10}}' -H 'x-crash: before-commit'

More than there is: 422, and kept, so a retry gets the same, whatever is in the account by then.
  {post} -H 'idempotency-key: car-1' -d '{{"from":"carol","to":"bob","amount":999999}}'

Press Ctrl-C here to stop. A transfer that is running is finished first.
"#
    );
}

#[cfg(test)]
#[path = "payments/tests.rs"]
mod tests;
