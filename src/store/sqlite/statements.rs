//! The SQL of SQLite.

use super::super::sql::{Statement, Table};

/// The statements of a store, for its table.
pub(super) struct Statements {
    pub(super) migrate: Statement,
    pub(super) read: Statement,
    pub(super) claim: Statement,
    pub(super) complete: Statement,
    pub(super) renew: Statement,
    pub(super) release: Statement,
    pub(super) clean: Statement,
    pub(super) columns: Statement,
    pub(super) index: Statement,
    pub(super) remove: Statement,
}

impl Statements {
    pub(super) fn new(table: &Table) -> Self {
        let statement = |sql: &str| Statement::new(&sql.replace("now()", NOW), table);
        Self {
            migrate: statement(include_str!("schema.sql")),
            read: statement(READ),
            claim: statement(CLAIM),
            complete: statement(COMPLETE),
            renew: statement(RENEW),
            release: statement(RELEASE),
            clean: statement(CLEAN),
            columns: statement(COLUMNS),
            index: statement(INDEX),
            remove: statement(REMOVE),
        }
    }
}

/// The time in milliseconds since 1970, which stays the same throughout a statement.
const NOW: &str = "CAST(round(unixepoch('subsec') * 1000) AS INTEGER)";

const READ: &str = r#"SELECT entry FROM "idempotency" WHERE key = ?1 AND expires > now()"#;

/// Changes no row if the key is not free.
const CLAIM: &str = r#"
INSERT INTO "idempotency" AS held (key, expires, entry) VALUES (?1, now() + ?3, ?2)
ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, entry = excluded.entry
WHERE held.expires <= now()"#;

/// Changes no row if the key is another's claim or has a record.
///
/// A claim starts with its owner, and nothing else does: see the module `wire::codec`.
const COMPLETE: &str = r#"
INSERT INTO "idempotency" AS held (key, expires, entry) VALUES (?1, now() + ?4, ?3)
ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, entry = excluded.entry
WHERE held.expires <= now() OR substr(held.entry, 1, 18) = ?2"#;

const RENEW: &str = r#"
UPDATE "idempotency" SET expires = now() + ?3
WHERE key = ?1 AND substr(entry, 1, 18) = ?2 AND expires > now()"#;

const RELEASE: &str = r#"
DELETE FROM "idempotency" WHERE key = ?1 AND substr(entry, 1, 18) = ?2 AND expires > now()"#;

const CLEAN: &str = r#"
DELETE FROM "idempotency" WHERE rowid IN (
    SELECT rowid FROM "idempotency" WHERE expires <= now() ORDER BY expires LIMIT ?1
)"#;

const COLUMNS: &str = r#"SELECT key, expires, entry FROM "idempotency""#;

/// Has a row if an index of all rows starts with the column that cleaning looks at.
const INDEX: &str = r#"
SELECT 1 FROM pragma_index_list(trim('"idempotency"', '"')) AS list, pragma_index_info(list.name) AS part
WHERE list.partial = 0 AND part.seqno = 0 AND part.name = 'expires'"#;

/// Only for a key that no request has.
const REMOVE: &str = r#"DELETE FROM "idempotency" WHERE key = ?1"#;
