//! The conformance kit, with its cases for transactions.

use support::conformance;
use tokio_postgres::{Client, Config, Transaction};
use tower_idempotency::store::conformance::Database;

use super::database::Schema;
use super::store::{TokioPostgresStore, connect};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_of_ones_own_keeps_what_a_transactional_store_promises() {
    let test = "a_store_of_ones_own_keeps_what_a_transactional_store_promises";
    let Some(schema) = Schema::of(test).await else {
        return;
    };
    let store = schema.store().await;
    conformance::passes(async || store.clone()).await;
    let application = async || Application {
        store: store.clone(),
        config: schema.config().clone(),
    };
    conformance::passes_in_transactions(application).await;
    schema.remove().await;
}

struct Application {
    store: TokioPostgresStore,
    config: Config,
}

impl Database for Application {
    type Store = TokioPostgresStore;
    type Session = Client;
    type Transaction<'s> = Transaction<'s>;
    const HAS_ONE_WRITER: bool = false;

    fn store(&self) -> TokioPostgresStore {
        self.store.clone()
    }

    async fn connect(&self) -> Client {
        connect(&self.config).await.unwrap()
    }

    async fn begin<'s>(&self, session: &'s mut Client) -> Transaction<'s> {
        session.transaction().await.unwrap()
    }

    fn connection<'t, 's: 't>(transaction: &'t mut Transaction<'s>) -> &'t mut Transaction<'s> {
        transaction
    }

    async fn commit(transaction: Self::Transaction<'_>) -> bool {
        transaction.commit().await.is_ok()
    }

    async fn roll_back(transaction: Self::Transaction<'_>) {
        transaction.rollback().await.unwrap();
    }
}
