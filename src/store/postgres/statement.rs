//! Statements that can't be taken for each other, and their values.

use std::fmt::Write;
use std::sync::Arc;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Arguments, AssertSqlSafe, PgConnection};

use super::super::sql::{self, Table};

/// A statement for one table.
///
/// Its first parameter is its own number, which the server compares with the one in the text. Behind
/// a pooler that mixes up prepared statements, a wrong one thus fails instead of acting.
#[derive(Clone)]
pub(super) struct Statement {
    sql: Arc<str>,
    number: i64,
}

/// A value of a statement.
#[derive(Clone, Copy)]
pub(super) enum Value<'v> {
    Bytes(&'v [u8]),
    Count(i64),
}

/// How statements reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Each connection prepares a statement once.
    Prepared,
    /// The values are in the text, and nothing is prepared.
    Simple,
}

/// A statement with its values.
pub(super) enum Bound {
    Prepared(AssertSqlSafe<Arc<str>>, PgArguments),
    Simple(AssertSqlSafe<String>),
}

impl Bound {
    /// Runs the statement, and returns all rows that it answers with.
    pub(super) async fn fetch_all(
        self,
        connection: &mut PgConnection,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        match self {
            Self::Prepared(sql, arguments) => {
                let query = sqlx::query_with(sql, arguments);
                query.fetch_all(connection).await
            }
            Self::Simple(sql) => sqlx::raw_sql(sql).fetch_all(connection).await,
        }
    }
}

impl Statement {
    /// Takes SQL in which the name of the table and the comparison of the number are still to be
    /// inserted.
    pub(super) fn new(sql: &str, table: &Table) -> Self {
        let sql = sql::inserted(&format!("{MARK}{}", sql.trim_start()), table);
        let number = i64::from(crc32fast::hash(sql.as_bytes()));
        // Divides by zero where the numbers differ.
        let is_right = format!("1 / ($1::bigint = {number})::int = 1");
        let sql = sql.replace("IS_RIGHT", &is_right).into();
        Self { sql, number }
    }

    /// Binds the values of the parameters from `$2` on.
    pub(super) fn bind(&self, protocol: Protocol, values: &[Value<'_>]) -> Bound {
        match protocol {
            Protocol::Prepared => {
                let mut arguments = PgArguments::default();
                let number = Value::Count(self.number);
                for value in std::iter::once(&number).chain(values) {
                    let added = match *value {
                        Value::Bytes(bytes) => arguments.add(bytes),
                        Value::Count(count) => arguments.add(count),
                    };
                    // Only a value above two gigabytes fails, of which the server then has none.
                    debug_assert!(added.is_ok());
                }
                Bound::Prepared(AssertSqlSafe(Arc::clone(&self.sql)), arguments)
            }
            Protocol::Simple => Bound::Simple(AssertSqlSafe(self.with_literals(values))),
        }
    }

    /// Writes the values into the text: bytes as hexadecimal digits, counts as decimal ones, and
    /// nothing else. No digit can end a literal, whatever the server's settings are.
    fn with_literals(&self, values: &[Value<'_>]) -> String {
        let sizes = values.iter().map(|value| match value {
            Value::Bytes(bytes) => 2 * bytes.len(),
            Value::Count(_) => 20,
        });
        let mut sql = String::with_capacity(self.sql.len() + 2 * sizes.sum::<usize>());
        let mut parts = self.sql.split('$');
        sql.extend(parts.next());
        for part in parts {
            // No statement has ten parameters.
            let (parameter, rest) = part.split_at(1);
            match parameter {
                "1" => write_literal(&mut sql, Value::Count(self.number)),
                _ => {
                    let index = usize::from(parameter.as_bytes()[0] - b'2');
                    write_literal(&mut sql, values[index]);
                }
            }
            sql.push_str(rest);
        }
        sql
    }
}

fn write_literal(sql: &mut String, value: Value<'_>) {
    match value {
        Value::Bytes(bytes) => {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            sql.push_str("decode('");
            for byte in bytes {
                sql.push(char::from(DIGITS[usize::from(byte >> 4)]));
                sql.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
            sql.push_str("', 'hex')");
        }
        Value::Count(count) => {
            // Nothing fails that writes to a string.
            let _ = write!(sql, "({count})");
        }
    }
}

/// What each statement begins with, so that it is found among those that the server runs.
pub(super) const MARK: &str = "/* tower-idempotency */ ";

#[cfg(test)]
mod tests {
    use super::super::statements::Statements;
    use super::*;

    #[test]
    fn values_become_literals_of_digits_alone() {
        let statement = Statement::new("SELECT $2, $3, $2 WHERE IS_RIGHT", &Table::default());
        let number = statement.number;
        let hostile = b"'; DROP TABLE x; --\\\0$2\xff";
        let hex: String = hostile.iter().map(|byte| format!("{byte:02x}")).collect();
        let values = [Value::Bytes(hostile), Value::Count(-7)];
        let Bound::Simple(sql) = statement.bind(Protocol::Simple, &values) else {
            panic!("not simple");
        };
        assert_eq!(
            sql.0,
            format!(
                "{MARK}SELECT decode('{hex}', 'hex'), (-7), decode('{hex}', 'hex') \
                 WHERE 1 / (({number})::bigint = {number})::int = 1"
            )
        );
    }

    /// Neither of one table nor of two.
    #[test]
    fn no_two_statements_have_one_number() {
        let mut numbers = std::collections::HashSet::new();
        for (schema, name) in [("public", "a"), ("public", "b"), ("other", "a")] {
            let mut table = Table::default();
            table.schema(schema);
            table.name(name);
            let statements = Statements::new(&table);
            for statement in statements.of_requests() {
                assert!(statement.sql.contains("$1::bigint = "), "{}", statement.sql);
                assert!(numbers.insert(statement.number), "{}", statement.sql);
            }
        }
        assert_eq!(numbers.len(), 21);
    }
}
