//! A schema of a test's own in the database that `DATABASE_URL` names.

use support::left_out;
use tokio_postgres::{Client, Config};
use tower_idempotency::store::Owner;

use crate::store::{TokioPostgresStore, config, connect};

pub(crate) struct Schema {
    config: Config,
    name: String,
}

impl Schema {
    /// Makes the schema, or says that the test is left out.
    pub(crate) async fn of(test: &str) -> Option<Self> {
        let Ok(url) = std::env::var("DATABASE_URL") else {
            left_out::say(test, "set DATABASE_URL, or run tests/run.sh");
            return None;
        };
        let unique = u128::from_be_bytes(*Owner::new().as_bytes());
        let name = format!("tokio_postgres_test_{unique:032x}");
        let mut config = config(&url);
        config.options(format!("-c search_path={name}"));
        let schema = Self { config, name };
        let create = format!("CREATE SCHEMA {}", schema.name);
        schema.connect().await.batch_execute(&create).await.unwrap();
        Some(schema)
    }

    pub(crate) async fn store(&self) -> TokioPostgresStore {
        let store = TokioPostgresStore::new(self.config.clone());
        store.migrate().await.unwrap();
        store
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) async fn connect(&self) -> Client {
        connect(&self.config).await.unwrap()
    }

    /// Removes the schema. A test that fails leaves it.
    pub(crate) async fn remove(self) {
        let drop = format!("DROP SCHEMA {} CASCADE", self.name);
        self.connect().await.batch_execute(&drop).await.unwrap();
    }
}
