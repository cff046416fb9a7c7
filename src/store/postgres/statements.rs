//! The SQL of PostgreSQL.

use super::super::sql::{Statement, Table};

/// The statements of a store, for its table.
pub(super) struct Statements {
    pub(super) migrate: Statement,
    pub(super) begin: Statement,
    pub(super) complete: Statement,
    pub(super) renew: Statement,
    pub(super) release: Statement,
    pub(super) clean: Statement,
}

impl Statements {
    pub(super) fn new(table: &Table) -> Self {
        let schema = include_str!("schema.sql");
        Self {
            migrate: Statement::new(&format!("{LOCK}{schema}"), table),
            begin: Statement::new(BEGIN, table),
            complete: Statement::new(COMPLETE, table),
            renew: Statement::new(RENEW, table),
            release: Statement::new(RELEASE, table),
            clean: Statement::new(CLEAN, table),
        }
    }
}

/// `IF NOT EXISTS` alone fails if two sessions make one table at once. The lock is sent in one
/// message with what follows, and so is held until that is committed. The number is random.
const LOCK: &str = "SELECT pg_advisory_xact_lock(6143859403172650215);\n";

/// Answers with the entry that has the key: the new claim, if the key was free. Answers with no row
/// if another session has claimed the key since the statement began.
///
/// The key is read first, since `ON CONFLICT` locks the row even if its condition is false, and
/// then a replay would write and wait for the disk.
const BEGIN: &str = r#"
WITH found AS (
    SELECT entry FROM "idempotency" WHERE key = $1 AND expires > now()
), claimed AS (
    INSERT INTO "idempotency" AS held (key, expires, entry)
    SELECT $1, now() + $3::bigint * interval '1 microsecond', $2
    WHERE NOT EXISTS (SELECT FROM found)
    ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, entry = excluded.entry
    WHERE held.expires <= now()
    RETURNING entry
)
SELECT entry FROM found UNION ALL SELECT entry FROM claimed"#;

/// Changes no row if the key is another's claim or has a record.
///
/// A claim starts with its owner, and nothing else does: see the module `wire::codec`. The conflict
/// is the rule, not the exception; locking the row first costs 56 bytes of the write-ahead log and
/// a few microseconds more than an `UPDATE` that knows no absent key.
const COMPLETE: &str = r#"
INSERT INTO "idempotency" AS held (key, expires, entry)
VALUES ($1, now() + $4::bigint * interval '1 microsecond', $3)
ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, entry = excluded.entry
WHERE held.expires <= now() OR substring(held.entry FROM 1 FOR 18) = $2
RETURNING true"#;

const RENEW: &str = r#"
UPDATE "idempotency" SET expires = now() + $3::bigint * interval '1 microsecond'
WHERE key = $1 AND substring(entry FROM 1 FOR 18) = $2 AND expires > now()
RETURNING true"#;

const RELEASE: &str = r#"
DELETE FROM "idempotency"
WHERE key = $1 AND substring(entry FROM 1 FOR 18) = $2 AND expires > now()
RETURNING true"#;

/// The index on `expires` makes this 20 times as fast in a table of 300,000 rows (2 ms a step
/// instead of 40), and adds a quarter to what a first write puts into the write-ahead log. Every
/// step changes `expires`, so no update can stay within its page's chain (HOT), and a lower
/// fillfactor only made the table larger.
///
/// The keys are collected once, in an array, since a plan may run a plain subquery more than once
/// and then remove more than it should.
const CLEAN: &str = r#"
WITH removed AS (
    DELETE FROM "idempotency" WHERE key = ANY (ARRAY(
        SELECT key FROM "idempotency" WHERE expires <= now()
        ORDER BY expires LIMIT $1 FOR UPDATE SKIP LOCKED
    ))
    RETURNING true
)
SELECT count(*) FROM removed"#;
