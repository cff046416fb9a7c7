//! Records that are kept in the handler's own transaction: the same cases for PostgreSQL and SQLite.

mod app;
mod bank;
mod bodies;
mod failing;
mod fallible;
mod keeping;
mod lease;
mod postgres;

/// Makes tests of cases, for each database.
macro_rules! on_each {
    ($($case:ident),+ $(,)?) => {
        mod on_postgres {
            $(#[tokio::test]
            async fn $case() {
                $crate::transactional::run::<$crate::transactional::bank::PostgresBank, _>(
                    stringify!($case),
                    super::$case,
                )
                .await;
            })+
        }

        mod on_sqlite {
            $(#[tokio::test]
            async fn $case() {
                $crate::transactional::run::<$crate::transactional::bank::SqliteBank, _>(
                    stringify!($case),
                    super::$case,
                )
                .await;
            })+
        }
    };
}
use on_each;

/// Runs a case on a database of its own.
async fn run<B: bank::Bank, Fut: Future<Output = ()>>(
    test: &str,
    case: impl FnOnce(std::sync::Arc<B>) -> Fut,
) {
    let Some(bank) = B::open(test).await else {
        return;
    };
    let bank = std::sync::Arc::new(bank);
    case(std::sync::Arc::clone(&bank)).await;
    if let Some(bank) = std::sync::Arc::into_inner(bank) {
        bank.close().await;
    }
}
