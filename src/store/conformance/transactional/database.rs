//! What the cases need to know of a database.

use std::future::Future;

use crate::store::TransactionalStore;

/// How the cases reach a database past its store: as an application that has transactions of its own.
///
/// What fails here panics, as in a test.
///
/// # Examples
///
/// For a store on sqlx's PostgreSQL:
#[cfg_attr(feature = "postgres", doc = "```")]
#[cfg_attr(not(feature = "postgres"), doc = "```ignore")]
/// use sqlx::{Connection, PgConnection, Postgres, Transaction};
/// use tower_idempotency::PostgresStore;
/// use tower_idempotency::store::conformance::Database;
///
/// struct MyDatabase {
///     store: PostgresStore,
///     url: String,
/// }
///
/// impl Database for MyDatabase {
///     type Store = PostgresStore;
///     type Session = PgConnection;
///     type Transaction<'s> = Transaction<'s, Postgres>;
///     const HAS_ONE_WRITER: bool = false;
///
///     fn store(&self) -> PostgresStore {
///         self.store.clone()
///     }
///
///     async fn connect(&self) -> PgConnection {
///         PgConnection::connect(&self.url).await.unwrap()
///     }
///
///     async fn begin<'s>(&self, session: &'s mut PgConnection) -> Transaction<'s, Postgres> {
///         session.begin().await.unwrap()
///     }
///
///     fn connection<'t, 's: 't>(transaction: &'t mut Transaction<'s, Postgres>) -> &'t mut PgConnection {
///         transaction
///     }
///
///     async fn commit(transaction: Self::Transaction<'_>) -> bool {
///         transaction.commit().await.is_ok()
///     }
///
///     async fn roll_back(transaction: Self::Transaction<'_>) {
///         transaction.rollback().await.unwrap();
///     }
/// }
/// ```
pub trait Database: Send + Sync + 'static {
    /// The store under test.
    type Store: TransactionalStore;

    /// What a transaction is begun on, such as a connection.
    type Session: Send;

    /// A transaction of the application.
    type Transaction<'s>: Send;

    /// Whether a transaction keeps every other writer off the database until it has ended, as
    /// SQLite's does. The cases in which somebody else must write meanwhile then have nothing to
    /// check.
    const HAS_ONE_WRITER: bool;

    /// Returns the store, which is in this database.
    fn store(&self) -> Self::Store;

    /// Opens a session that nobody else uses. There are up to 16 at once.
    fn connect(&self) -> impl Future<Output = Self::Session> + Send;

    /// Begins a transaction that may write. Where there is one writer, it waits for its turn.
    fn begin<'s>(
        &self,
        session: &'s mut Self::Session,
    ) -> impl Future<Output = Self::Transaction<'s>> + Send;

    /// Returns what the store is given of a transaction.
    fn connection<'t, 's: 't>(
        transaction: &'t mut Self::Transaction<'s>,
    ) -> &'t mut <Self::Store as TransactionalStore>::Connection<'s>;

    /// Commits a transaction, and returns whether it is committed. A database may refuse.
    fn commit(transaction: Self::Transaction<'_>) -> impl Future<Output = bool> + Send;

    /// Rolls a transaction back.
    fn roll_back(transaction: Self::Transaction<'_>) -> impl Future<Output = ()> + Send;
}
