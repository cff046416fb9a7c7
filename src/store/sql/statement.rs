//! SQL statements in which the name of the table is inserted.

use std::fmt;
use std::sync::Arc;

use sqlx::AssertSqlSafe;
#[cfg(feature = "sqlite")]
use sqlx::{Database, query::Query};

/// The name of a table, which may have a schema.
///
/// Both names are checked when they are set, so that statements are safe, and written in quotes, so
/// that a word like `order` can be a name.
#[derive(Clone)]
pub(crate) struct Table {
    schema: Option<String>,
    name: String,
}

impl Table {
    #[cfg(any(feature = "postgres", test))]
    pub(crate) fn schema(&mut self, schema: &str) {
        self.schema = Some(checked("schema", schema));
    }

    pub(crate) fn name(&mut self, name: &str) {
        self.name = checked("table", name);
    }
}

impl Default for Table {
    fn default() -> Self {
        Self {
            schema: None,
            name: "idempotency".into(),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "\"{schema}\".")?;
        }
        write!(f, "\"{}\"", self.name)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A statement for one table.
#[derive(Clone)]
pub(crate) struct Statement(Arc<str>);

impl Statement {
    /// Takes SQL that is written for the default name, and inserts the table's own.
    pub(crate) fn new(sql: &str, table: &Table) -> Self {
        Self(inserted(sql, table).into())
    }

    /// Makes a query that the database prepares once for each connection.
    #[cfg(feature = "sqlite")]
    pub(crate) fn query<'q, DB: Database>(&self) -> Query<'q, DB, DB::Arguments> {
        sqlx::query(self.sql())
    }

    /// Returns the SQL as a text of its own.
    #[cfg(feature = "postgres")]
    pub(crate) fn text(&self) -> AssertSqlSafe<String> {
        AssertSqlSafe(self.0.to_string())
    }

    /// Returns the SQL. The only part that comes from outside is a checked name.
    #[cfg(feature = "sqlite")]
    pub(crate) fn sql(&self) -> AssertSqlSafe<Arc<str>> {
        AssertSqlSafe(Arc::clone(&self.0))
    }
}

/// Inserts the table's own name into SQL that is written for the default one.
pub(crate) fn inserted(sql: &str, table: &Table) -> String {
    let index = format!("\"{}_expires\"", table.name);
    sql.replace("\"idempotency_expires\"", &index)
        .replace("\"idempotency\"", &table.to_string())
}

/// Takes a name that needs no escaping in any database.
fn checked(what: &str, name: &str) -> String {
    let starts = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
    let goes_on = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    assert!(
        starts && goes_on && name.len() <= MAX_NAME,
        "{what} is {name:?}, but it must have 1 to {MAX_NAME} characters of a-z, 0-9 and _, and \
         not start with a digit"
    );
    name.into()
}

/// PostgreSQL cuts names at 63 bytes, and the index's is eight bytes longer than the table's.
const MAX_NAME: usize = 55;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_table_and_index_are_put_into_a_statement() {
        let mut table = Table::default();
        let sql = "CREATE INDEX \"idempotency_expires\" ON \"idempotency\" (expires)";
        assert_eq!(&*Statement::new(sql, &table).0, sql);
        table.schema("app");
        table.name("order");
        assert_eq!(
            &*Statement::new(sql, &table).0,
            "CREATE INDEX \"order_expires\" ON \"app\".\"order\" (expires)"
        );
    }

    #[test]
    fn a_name_that_could_break_out_of_its_quotes_or_be_cut_is_refused() {
        let refused = |name: &str| std::panic::catch_unwind(|| checked("table", name)).is_err();
        for name in ["", "1a", "a\"b", "a;b", "A", "a b", "a.b", "ä", "a\0"] {
            assert!(refused(name), "{name:?}");
        }
        assert!(refused(&"a".repeat(56)));
        assert!(!refused(&"a".repeat(55)));
        assert!(!refused("_a1"));
    }
}
