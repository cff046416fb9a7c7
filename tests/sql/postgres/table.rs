//! The table: how it is made, what lies in it, and how it is cleaned.

use std::time::Duration;

use sqlx::Row;
use tokio::task::JoinSet;
use tower_idempotency::PostgresStore;
use tower_idempotency::store::{Begin, Ownership, Store};

use super::database::Database;
use crate::entry::{MINUTE, claim, key, must_be_corrupt, must_start, record};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn migrate_can_run_twice_and_by_many_at_once() {
    let Some(database) = Database::of("migrate_can_run_twice_and_by_many_at_once").await else {
        return;
    };
    for round in 0..5 {
        let mut instances = JoinSet::new();
        for _ in 0..8 {
            let store = PostgresStore::connect(database.url()).await.unwrap();
            let store = store.table(&format!("round_{round}"));
            instances.spawn(async move { store.migrate().await });
        }
        for migrated in instances.join_all().await {
            migrated.unwrap();
        }
    }
    database.remove().await;
}

#[tokio::test]
async fn schema_and_table_can_be_named_and_two_tables_know_nothing_of_each_other() {
    let Some(database) = Database::of("schema_and_table_can_be_named").await else {
        return;
    };
    let url = std::env::var("DATABASE_URL").unwrap();
    let store = PostgresStore::connect(&url).await.unwrap();
    let store = store.schema(database.schema());
    // A reserved word.
    let (named, usual) = (store.clone().table("order"), store);
    for store in [&named, &usual] {
        store.migrate().await.unwrap();
        must_start(store.begin(&key(1), &claim(), MINUTE).await);
        assert!(matches!(
            store.begin(&key(1), &claim(), MINUTE).await,
            Ok(Begin::InProgress(_))
        ));
        assert_eq!(store.clean().await.unwrap(), 0);
    }
    let names = database
        .ask(&format!(
            "SELECT tablename::text FROM pg_indexes WHERE schemaname = '{}' ORDER BY indexname",
            database.schema()
        ))
        .await;
    let names: Vec<String> = names.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["idempotency", "idempotency", "order", "order"]);
    database.remove().await;
}

/// Those who run their own migrations take the SQL from the docs.
#[tokio::test]
async fn a_table_made_by_the_sql_of_the_docs_serves() {
    let Some(database) = Database::of("a_table_made_by_the_sql_of_the_docs_serves").await else {
        return;
    };
    let schema = include_str!("../../../src/store/postgres/schema.sql");
    database.ask(schema).await;
    let store = PostgresStore::connect(database.url()).await.unwrap();
    must_start(store.begin(&key(1), &claim(), MINUTE).await);
    database.remove().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_a_failure_of_kind_corrupt_and_is_left_alone() {
    let Some(database) = Database::of("what_cannot_be_read_is_a_failure").await else {
        return;
    };
    let store = database.store().await;
    let (key, claim) = (key(1), claim());
    must_start(store.begin(&key, &claim, MINUTE).await);
    let record = record(b"{\"id\":1}");
    let held = store.complete(&key, claim.owner(), &record, MINUTE);
    assert_eq!(held.await.unwrap(), Ownership::Held);
    for damage in [
        "entry = set_byte(entry, 40, get_byte(entry, 40) # 1)",
        "entry = substring(entry FROM 1 FOR 30)",
        "entry = ''",
        // The checksum of "\x0952" is right: a whole entry of a version that is not known.
        "entry = '\\x0952157e996e'",
    ] {
        database
            .ask(&format!("UPDATE idempotency SET {damage}"))
            .await;
        let entry = async || {
            let rows = database
                .ask("SELECT entry, expires::text FROM idempotency")
                .await;
            let row = &rows[0];
            (row.get::<Vec<u8>, _>(0), row.get::<String, _>(1))
        };
        let before = entry().await;
        must_be_corrupt(store.begin(&key, &self::claim(), MINUTE).await);
        let released = store.release(&key, claim.owner()).await.unwrap();
        assert_eq!(released, Ownership::Lost);
        let completed = store.complete(&key, claim.owner(), &record, MINUTE);
        assert_eq!(completed.await.unwrap(), Ownership::Lost);
        assert_eq!(entry().await, before);
    }
    database.remove().await;
}

#[tokio::test]
async fn cleaning_removes_all_that_has_ended_and_nothing_else() {
    let Some(database) = Database::of("cleaning_removes_all_that_has_ended").await else {
        return;
    };
    let store = database.store().await;
    // More than two steps.
    database
        .ask(
            "INSERT INTO idempotency SELECT sha256(n::text::bytea), now() - n * interval '1 s', ''
             FROM generate_series(1, 1234) AS n",
        )
        .await;
    for n in 1..=3 {
        must_start(store.begin(&key(n), &claim(), MINUTE).await);
    }
    // Two that clean at once share the work.
    let (one, other) = tokio::join!(store.clean(), store.clean());
    assert_eq!(
        one.unwrap() + other.unwrap() + store.clean().await.unwrap(),
        1234
    );
    let left = database.ask("SELECT count(*) FROM idempotency").await;
    assert_eq!(left[0].get::<i64, _>(0), 3);
    database.remove().await;
}

#[tokio::test]
async fn a_cleaner_skips_a_row_that_a_request_is_at() {
    let Some(database) = Database::of("a_cleaner_skips_a_row_that_a_request_is_at").await else {
        return;
    };
    let store = database.store().await;
    database
        .ask(
            "INSERT INTO idempotency SELECT sha256(n::text::bytea), now() - interval '1 s', ''
             FROM generate_series(1, 10) AS n",
        )
        .await;
    let pool = sqlx::PgPool::connect(database.url()).await.unwrap();
    let mut request = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM idempotency WHERE key = sha256('1') FOR UPDATE")
        .execute(&mut *request)
        .await
        .unwrap();
    let cleaned = tokio::time::timeout(Duration::from_secs(20), store.clean()).await;
    assert_eq!(cleaned.expect("the cleaner does not wait").unwrap(), 9);
    request.rollback().await.unwrap();
    assert_eq!(store.clean().await.unwrap(), 1);
    database.remove().await;
}
