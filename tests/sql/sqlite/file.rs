//! A file of a test's own.

use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection};
use tempfile::TempDir;
use tower_idempotency::SqliteStore;

/// A file that ends with the test.
pub(crate) struct File(TempDir);

impl File {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("idempotency.db")
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }

    pub(crate) async fn store(&self) -> SqliteStore {
        let store = SqliteStore::open(self.path()).await.unwrap();
        store.migrate().await.unwrap();
        store
    }

    /// Runs SQL past the store.
    pub(crate) async fn ask(&self, sql: &str) -> Vec<SqliteRow> {
        ask(&self.path(), sql).await
    }
}

/// Runs SQL past the store of a file.
pub(crate) async fn ask(path: &Path, sql: &str) -> Vec<SqliteRow> {
    let url = format!("sqlite:{}", path.display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let sql = AssertSqlSafe(sql.to_owned());
    let rows = connection.fetch_all(sqlx::raw_sql(sql)).await.unwrap();
    connection.close().await.unwrap();
    rows
}
