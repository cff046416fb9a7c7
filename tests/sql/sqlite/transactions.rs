//! The conformance kit's cases for transactions.

use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection, Transaction};
use tower_idempotency::store::TransactionalStore;
use tower_idempotency::store::conformance::Database;

use super::file::File;

mod store {
    use super::{Application, File};

    tower_idempotency::transactional_conformance_tests! {
        clock: real,
        database: {
            let file = File::new();
            let store = file.store().await;
            Application { file, store }
        },
    }
}

mod shared_store {
    use std::sync::Arc;

    use super::{Application, File};

    tower_idempotency::transactional_conformance_tests! {
        clock: real,
        database: {
            let file = File::new();
            let store = Arc::new(file.store().await);
            Application { file, store }
        },
    }
}

/// An application with transactions of its own.
struct Application<S> {
    file: File,
    store: S,
}

impl<S> Database for Application<S>
where
    S: for<'c> TransactionalStore<Connection<'c> = SqliteConnection> + Clone,
{
    type Store = S;
    type Session = SqliteConnection;
    type Transaction<'s> = Transaction<'s, Sqlite>;
    const HAS_ONE_WRITER: bool = true;

    fn store(&self) -> S {
        self.store.clone()
    }

    async fn connect(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.file.path());
        let options = options.busy_timeout(Duration::from_secs(60));
        options.connect().await.unwrap()
    }

    async fn begin<'s>(&self, session: &'s mut SqliteConnection) -> Transaction<'s, Sqlite> {
        session.begin_with("BEGIN IMMEDIATE").await.unwrap()
    }

    fn connection<'t, 's: 't>(
        transaction: &'t mut Transaction<'s, Sqlite>,
    ) -> &'t mut SqliteConnection {
        transaction
    }

    async fn commit(transaction: Self::Transaction<'_>) -> bool {
        transaction.commit().await.is_ok()
    }

    async fn roll_back(transaction: Self::Transaction<'_>) {
        transaction.rollback().await.unwrap();
    }
}
