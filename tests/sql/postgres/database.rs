//! A schema of a test's own in the database that `DATABASE_URL` names.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tower_idempotency::PostgresStore;
use tower_idempotency::store::Owner;

use crate::cluster_support::left_out;

pub(crate) struct Database {
    url: String,
    schema: String,
}

impl Database {
    /// Makes the schema, or says that the test is left out.
    pub(crate) async fn of(test: &str) -> Option<Self> {
        let Ok(url) = std::env::var("DATABASE_URL") else {
            left_out::say(test, "set DATABASE_URL, or run tests/run.sh");
            return None;
        };
        let unique = u128::from_be_bytes(*Owner::new().as_bytes());
        let schema = format!("idempotency_test_{unique:032x}");
        let joint = if url.contains('?') { '&' } else { '?' };
        let database = Self {
            url: format!("{url}{joint}options[search_path]={schema}"),
            schema,
        };
        database
            .ask(&format!("CREATE SCHEMA {}", database.schema))
            .await;
        Some(database)
    }

    /// Returns an address at which the schema is the one that is used.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    pub(crate) async fn store(&self) -> PostgresStore {
        let store = PostgresStore::connect(&self.url).await.unwrap();
        store.migrate().await.unwrap();
        store
    }

    /// Runs SQL past the store.
    pub(crate) async fn ask(&self, sql: &str) -> Vec<PgRow> {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let sql = AssertSqlSafe(sql.to_owned());
        connection.fetch_all(sqlx::raw_sql(sql)).await.unwrap()
    }

    /// Removes the schema. A test that fails leaves it.
    pub(crate) async fn remove(self) {
        self.ask(&format!("DROP SCHEMA {} CASCADE", self.schema))
            .await;
    }
}
