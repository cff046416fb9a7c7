//! The bank's handler, which stops, fails or dawdles where it hurts.

use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use sqlx::Pool;
use support::Random;
use tokio::time::sleep;
use tower_idempotency::{Transactional, TransactionalError};

use super::book;
use super::engine::Engine;
use super::instance::{LEASE, say, wait_for_the_parent};
use super::watched::Watched;

pub(crate) struct Bank<DB: Engine> {
    pub(crate) pool: Pool<DB>,
    /// What makes the plan of each run.
    pub(crate) random: std::sync::Mutex<Random>,
}

/// Moves money, and fails at random.
pub(crate) async fn transfer<DB: Engine>(
    State(bank): State<std::sync::Arc<Bank<DB>>>,
    Extension(keep): Extension<Transactional<Watched<DB::Store>>>,
    Path(operation): Path<u64>,
) -> Result<Response, Failed> {
    say("run");
    let random = bank.random.lock().unwrap().number();
    let mut random = Random::new(random, operation);
    let plan = random.within(0..40);
    let may_try_again = random.is_one_in(2);
    let response = loop {
        pause::<DB>(&mut random).await;
        let mut tx = bank.pool.begin_with(DB::BEGIN).await?;
        let entry = book::enter::<DB>(&mut tx, operation).await?;
        pause::<DB>(&mut random).await;
        book::transfer::<DB>(&mut tx, operation).await?;
        let response = created(operation, entry);
        let response = keep.in_transaction(&mut tx, response).await?;
        pause::<DB>(&mut random).await;
        if plan == 0 {
            return Err(Failed::Planned);
        }
        match tx.commit().await {
            Ok(()) => break response,
            // Nobody knows whether it has taken place.
            Err(_) if may_try_again => say("another transaction"),
            Err(error) => return Err(error.into()),
        }
    };
    pause::<DB>(&mut random).await;
    match plan {
        1 => Err(Failed::Planned),
        2 => Ok(StatusCode::IM_A_TEAPOT.into_response()),
        // Without a word on the way.
        3 => std::panic::resume_unwind(Box::new("planned")),
        _ => Ok(response),
    }
}

/// Writes an entry alone, which keeps no other from writing, and waits for a word of the parent where the
/// request says.
pub(crate) async fn entry<DB: Engine>(
    State(bank): State<std::sync::Arc<Bank<DB>>>,
    Extension(keep): Extension<Transactional<Watched<DB::Store>>>,
    Path(operation): Path<u64>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    say("run");
    let stand = async |at: &str| {
        if headers.get("x-stand").is_some_and(|stand| *stand == *at) {
            wait_for_the_parent().await;
        }
    };
    stand("before the transaction").await;
    let mut tx = bank.pool.begin_with(DB::BEGIN).await?;
    let entry = book::enter::<DB>(&mut tx, operation).await?;
    stand("before the record").await;
    let response = created(operation, entry);
    let response = keep.in_transaction(&mut tx, response).await?;
    stand("before the commit").await;
    tx.commit().await?;
    stand("after the commit").await;
    Ok(response)
}

fn created(operation: u64, entry: i64) -> Response {
    (
        StatusCode::CREATED,
        format!("operation {operation} is entry {entry}"),
    )
        .into_response()
}

/// At times pauses, now and then for longer than a lease.
async fn pause<DB: Engine>(random: &mut Random) {
    if !random.is_one_in(DB::PAUSES) {
        return;
    }
    let longest = if random.is_one_in(100) {
        3 * LEASE / 2
    } else {
        LEASE / 40
    };
    sleep(longest.mul_f64(random.within(1..100) as f64 / 100.0)).await;
}

pub(crate) enum Failed {
    Database(sqlx::Error),
    NotKept(TransactionalError),
    Planned,
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<TransactionalError> for Failed {
    fn from(error: TransactionalError) -> Self {
        Self::NotKept(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        match self {
            Self::Database(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
            Self::NotKept(error) => error.into(),
            Self::Planned => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}
