//! The conformance kit's cases for transactions.

use std::sync::Arc;

use sqlx::{Connection, PgConnection, Postgres, Transaction};
use tower_idempotency::store::TransactionalStore;
use tower_idempotency::store::conformance::Database;

use super::database;
use crate::cluster_support::conformance;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_store_keeps_what_it_promises_in_transactions() {
    let test = "the_store_keeps_what_it_promises_in_transactions";
    let Some(database) = database::Database::of(test).await else {
        return;
    };
    let store = database.store().await;
    let (begin, url) = ("BEGIN", database.url());
    conformance::passes_in_transactions(async || Application::new(store.clone(), url, begin)).await;
    let shared = Arc::new(store.clone());
    conformance::passes_in_transactions(async || Application::new(shared.clone(), url, begin))
        .await;
    let simple = store.simple_protocol(true);
    conformance::passes_in_transactions(async || Application::new(simple.clone(), url, begin))
        .await;
    database.remove().await;
}

/// A transaction that can't see what has been committed since it began fails instead of acting on what
/// it sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_store_keeps_it_in_transactions_that_see_one_state_of_the_database() {
    let test = "the_store_keeps_it_in_transactions_that_see_one_state_of_the_database";
    let Some(database) = database::Database::of(test).await else {
        return;
    };
    let store = database.store().await;
    let (begin, url) = ("BEGIN ISOLATION LEVEL REPEATABLE READ", database.url());
    conformance::passes_in_transactions(async || Application::new(store.clone(), url, begin)).await;
    database.remove().await;
}

/// An application with transactions of its own.
struct Application<S> {
    store: S,
    url: String,
    begin: &'static str,
}

impl<S> Application<S> {
    fn new(store: S, url: &str, begin: &'static str) -> Self {
        Self {
            store,
            url: url.to_owned(),
            begin,
        }
    }
}

impl<S> Database for Application<S>
where
    S: for<'c> TransactionalStore<Connection<'c> = PgConnection> + Clone,
{
    type Store = S;
    type Session = PgConnection;
    type Transaction<'s> = Transaction<'s, Postgres>;
    const HAS_ONE_WRITER: bool = false;

    fn store(&self) -> S {
        self.store.clone()
    }

    async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    async fn begin<'s>(&self, session: &'s mut PgConnection) -> Transaction<'s, Postgres> {
        session.begin_with(self.begin).await.unwrap()
    }

    fn connection<'t, 's: 't>(
        transaction: &'t mut Transaction<'s, Postgres>,
    ) -> &'t mut PgConnection {
        transaction
    }

    async fn commit(transaction: Self::Transaction<'_>) -> bool {
        transaction.commit().await.is_ok()
    }

    async fn roll_back(transaction: Self::Transaction<'_>) {
        transaction.rollback().await.unwrap();
    }
}
