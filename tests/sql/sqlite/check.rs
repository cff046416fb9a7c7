//! What `check` and `open` say of a store that is set up wrongly.

use std::error::Error;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{Executor, Row, SqlitePool};
use tower_idempotency::SqliteStore;
use tower_idempotency::store::{Store, StoreError, StoreErrorKind};

use super::file::File;
use super::ledger::must_complete;
use crate::entry::{MINUTE, claim, key, must_start};

/// The settings that the docs ask for.
fn right(file: &File) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file.path())
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(std::time::Duration::ZERO)
}

async fn pool(options: SqliteConnectOptions) -> SqlitePool {
    let pool = SqlitePoolOptions::new().max_connections(2);
    pool.connect_with(options).await.unwrap()
}

/// A wrong setting says what is wrong, in these words.
#[track_caller]
fn must_be_wrong(checked: Result<(), StoreError>, words: &[&str]) {
    let error = checked.expect_err(words[0]);
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error:?}");
    let why = error.source().expect("a reason").to_string();
    for word in words {
        assert!(why.contains(word), "{why}");
    }
    println!("{why}");
}

#[tokio::test]
async fn a_store_that_is_set_up_rightly_is_checked_and_nothing_is_changed_or_left_behind() {
    let file = File::new();
    let own = file.store().await;
    let claim = claim();
    must_start(own.begin(&key(1), &claim, MINUTE).await);
    must_complete(&own, 1, &claim).await;
    let content = async || {
        let rows = file
            .ask("SELECT hex(key), expires, hex(entry) FROM idempotency")
            .await;
        let rows = rows.iter().map(|row| {
            let hex = |n: usize| row.get::<String, _>(n);
            format!("{} {} {}", hex(0), row.get::<i64, _>(1), hex(2))
        });
        let names = file
            .ask("SELECT name FROM sqlite_master ORDER BY name")
            .await;
        let names = names.iter().map(|row| row.get::<String, _>(0));
        rows.chain(names).collect::<Vec<_>>()
    };
    let before = content().await;
    let of_the_application = SqliteStore::new(pool(right(&file)).await);
    for store in [own, of_the_application] {
        for _ in 0..3 {
            store.check().await.unwrap();
        }
    }
    assert_eq!(content().await, before);
}

#[tokio::test]
async fn a_table_that_is_not_there_or_not_so_is_found() {
    for (table, words) in [
        ("", ["no such table", "migrate()"]),
        (
            "CREATE TABLE idempotency (key BLOB PRIMARY KEY, expires INTEGER)",
            ["no such column: entry", "migrate()"],
        ),
        (
            "CREATE TABLE idempotency (key BLOB PRIMARY KEY, expires TEXT, entry BLOB)",
            ["expires is of type TEXT", "INTEGER"],
        ),
        (
            "CREATE TABLE idempotency (key TEXT PRIMARY KEY, expires INTEGER, entry BLOB)",
            ["key is of type TEXT", "BLOB"],
        ),
        (
            "CREATE TABLE idempotency (key BLOB, expires INTEGER, entry BLOB)",
            ["ON CONFLICT", "docs"],
        ),
        (
            "CREATE TABLE idempotency
                (key BLOB PRIMARY KEY, expires INTEGER, entry BLOB, tenant TEXT NOT NULL)",
            ["NOT NULL constraint failed", "tenant"],
        ),
        (RIGHT, ["no index on expires", "migrate()"]),
        // Neither of them finds the rows that have ended.
        (
            concat!(
                "CREATE TABLE idempotency (key BLOB PRIMARY KEY, expires INTEGER, entry BLOB);",
                "CREATE INDEX idempotency_expires ON idempotency (key, expires)",
            ),
            ["no index on expires", "migrate()"],
        ),
        (
            concat!(
                "CREATE TABLE idempotency (key BLOB PRIMARY KEY, expires INTEGER, entry BLOB);",
                "CREATE INDEX idempotency_expires ON idempotency (expires) WHERE expires > 9",
            ),
            ["no index on expires", "migrate()"],
        ),
    ] {
        let file = File::new();
        let store = SqliteStore::open(file.path()).await.unwrap();
        file.ask(table).await;
        must_be_wrong(store.check().await, &words);
        // A request gets the same kind of error, if it can't be served.
        if let Err(error) = store.begin(&key(1), &claim(), MINUTE).await {
            assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error:?}");
        }
    }
}

/// An index of any name serves, and `migrate` makes the one that is missing.
#[tokio::test]
async fn an_index_that_was_missing_is_made_by_migrate_and_one_of_another_name_is_as_good() {
    for make in ["", "CREATE INDEX mine ON orders (expires, key)"] {
        let file = File::new();
        let store = SqliteStore::open(file.path()).await.unwrap();
        let store = store.table("orders");
        file.ask(&RIGHT.replace("idempotency", "orders")).await;
        file.ask(make).await;
        if make.is_empty() {
            must_be_wrong(store.check().await, &["no index on expires"]);
            store.migrate().await.unwrap();
        }
        store.check().await.unwrap();
    }
}

/// A table without its index.
const RIGHT: &str = "CREATE TABLE idempotency (key BLOB PRIMARY KEY, expires INTEGER, entry BLOB)";

#[tokio::test]
async fn a_pool_that_is_not_as_the_docs_ask_for_is_found() {
    let file = File::new();
    // Kept: the last connection that closes locks the file.
    let _own = file.store().await;
    let options = right(&file).busy_timeout(std::time::Duration::from_secs(5));
    let store = SqliteStore::new(pool(options).await);
    must_be_wrong(store.check().await, &["busy_timeout is 5000 ms", "zero"]);
    let options = right(&file).read_only(true);
    let store = SqliteStore::new(pool(options).await);
    must_be_wrong(store.check().await, &["readonly"]);

    let other = File::new();
    let options = right(&other).journal_mode(SqliteJournalMode::Delete);
    let store = SqliteStore::new(pool(options).await);
    store.migrate().await.unwrap();
    must_be_wrong(store.check().await, &["journal mode is delete", "WAL"]);

    let pool = SqlitePoolOptions::new().connect_lazy_with(right(&file).filename("/none/at/all"));
    must_be_wrong(SqliteStore::new(pool).check().await, &["unable to open"]);
}

#[tokio::test]
async fn a_connection_that_was_left_inside_a_transaction_is_found() {
    let file = File::new();
    // Kept: the last connection that closes locks the file.
    let _own = file.store().await;
    let pool = SqlitePoolOptions::new().max_connections(1);
    let pool = pool.connect_with(right(&file)).await.unwrap();
    let store = SqliteStore::new(pool.clone());
    store.check().await.unwrap();
    let mut left = pool.acquire().await.unwrap();
    left.execute("BEGIN").await.unwrap();
    drop(left);
    must_be_wrong(store.check().await, &["inside a transaction"]);
}

#[tokio::test]
async fn a_path_that_is_no_database_is_a_wrong_setting_and_nothing_is_made_there() {
    let file = File::new();
    let folder = file.path().with_file_name("folder");
    let text = file.path().with_file_name("text");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&text, "no database, ".repeat(100)).unwrap();
    let none = folder.join("none").join("idempotency.db");
    for path in [&folder, &text, &none] {
        let opened = SqliteStore::open(path).await;
        must_be_wrong(opened.map(drop), &["("]);
    }
    let names = std::fs::read_dir(file.path().parent().unwrap()).unwrap();
    assert_eq!(names.count(), 2);
}
