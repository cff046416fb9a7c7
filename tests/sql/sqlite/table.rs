//! The table: how it is made, what lies in it, and how it is cleaned.

use sqlx::Row;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tokio::task::JoinSet;
use tower_idempotency::SqliteStore;
use tower_idempotency::store::{Begin, Ownership, Store};

use super::file::File;
use crate::entry::{MINUTE, claim, key, must_be_corrupt, must_start, record};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_can_be_opened_and_migrated_by_many_at_once() {
    for _ in 0..5 {
        let file = File::new();
        let mut instances = JoinSet::new();
        for _ in 0..8 {
            let path = file.path();
            instances.spawn(async move {
                let store = SqliteStore::open(path).await.unwrap();
                store.migrate().await.unwrap();
                store.migrate().await.unwrap();
            });
        }
        instances.join_all().await;
    }
}

#[tokio::test]
async fn the_file_has_a_write_ahead_log() {
    let file = File::new();
    file.store().await;
    let mode = file.ask("PRAGMA journal_mode").await;
    assert_eq!(mode[0].get::<String, _>(0), "wal");
}

#[tokio::test]
async fn the_table_can_be_named_and_two_stores_in_one_file_know_nothing_of_each_other() {
    let file = File::new();
    let usual = file.store().await;
    // A reserved word.
    let named = usual.clone().table("order");
    // One that shares nothing but the file.
    let other = SqliteStore::open(file.path()).await.unwrap().table("other");
    let stores = [usual, named, other];
    for (n, store) in (0..).zip(&stores) {
        store.migrate().await.unwrap();
        store.check().await.unwrap();
        let claim = claim();
        must_start(store.begin(&key(1), &claim, MINUTE).await);
        let begun = store.begin(&key(1), &self::claim(), MINUTE).await;
        assert!(matches!(begun, Ok(Begin::InProgress(_))));
        let (record, owner) = (record(&[n; 9]), claim.owner());
        let held = store.complete(&key(1), owner, &record, MINUTE).await;
        assert_eq!(held.unwrap(), Ownership::Held);
    }
    file.ask(r#"UPDATE "order" SET expires = 1"#).await;
    let removed = stores.each_ref().map(SqliteStore::clean);
    for (removed, expected) in removed.into_iter().zip([0, 1, 0]) {
        assert_eq!(removed.await.unwrap(), expected);
    }
    for (n, is_there) in [(0, true), (1, false), (2, true)] {
        let begun = stores[n].begin(&key(1), &claim(), MINUTE).await.unwrap();
        match begun {
            Begin::Completed(found) => assert!(is_there && found == record(&[n as u8; 9])),
            other => assert!(!is_there, "{other:?}"),
        }
    }
}

/// Those who run their own migrations take the SQL from the docs.
#[tokio::test]
async fn a_table_made_by_the_sql_of_the_docs_serves_and_so_does_a_pool_of_the_application() {
    let options = SqliteConnectOptions::new().in_memory(true);
    let pool = SqlitePoolOptions::new().max_connections(1);
    let pool = pool.connect_with(options).await.unwrap();
    let schema = include_str!("../../../src/store/sqlite/schema.sql");
    sqlx::raw_sql(schema).execute(&pool).await.unwrap();
    let store = SqliteStore::new(pool);
    must_start(store.begin(&key(1), &claim(), MINUTE).await);
    let begun = store.begin(&key(1), &claim(), MINUTE).await;
    assert!(matches!(begun, Ok(Begin::InProgress(_))));
}

#[tokio::test]
async fn what_cannot_be_read_is_a_failure_of_kind_corrupt_and_is_left_alone() {
    let file = File::new();
    let store = file.store().await;
    let (key, claim) = (key(1), claim());
    must_start(store.begin(&key, &claim, MINUTE).await);
    let record = record(b"{\"id\":1}");
    let held = store.complete(&key, claim.owner(), &record, MINUTE);
    assert_eq!(held.await.unwrap(), Ownership::Held);
    let rows = file.ask("SELECT hex(entry) FROM idempotency").await;
    let whole = rows[0].get::<String, _>(0);
    let flipped = if whole[80..].starts_with("00") {
        "01"
    } else {
        "00"
    };
    for damaged in [
        format!("{}{flipped}{}", &whole[..80], &whole[82..]),
        whole[..60].to_owned(),
        String::new(),
        // The checksum of "\x0952" is right: a whole entry of a version that is not known.
        "0952157e996e".to_owned(),
    ] {
        file.ask(&format!("UPDATE idempotency SET entry = x'{damaged}'"))
            .await;
        let entry = async || {
            let rows = file.ask("SELECT entry, expires FROM idempotency").await;
            let row = &rows[0];
            (row.get::<Vec<u8>, _>(0), row.get::<i64, _>(1))
        };
        let before = entry().await;
        must_be_corrupt(store.begin(&key, &self::claim(), MINUTE).await);
        let released = store.release(&key, claim.owner()).await.unwrap();
        assert_eq!(released, Ownership::Lost);
        let completed = store.complete(&key, claim.owner(), &record, MINUTE);
        assert_eq!(completed.await.unwrap(), Ownership::Lost);
        assert_eq!(entry().await, before);
    }
}

#[tokio::test]
async fn cleaning_removes_all_that_has_ended_and_nothing_else() {
    let file = File::new();
    let store = file.store().await;
    // More than two steps.
    file.ask(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 234)
         INSERT INTO idempotency SELECT CAST(n AS BLOB), 1000 * n, x'' FROM n",
    )
    .await;
    for n in 1..=3 {
        must_start(store.begin(&key(n), &claim(), MINUTE).await);
    }
    let (one, other) = tokio::join!(store.clean(), store.clean());
    assert_eq!(one.unwrap() + other.unwrap(), 234);
    let left = file.ask("SELECT count(*) FROM idempotency").await;
    assert_eq!(left[0].get::<i64, _>(0), 3);
}
