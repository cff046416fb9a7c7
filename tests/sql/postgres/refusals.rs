//! Statements that the server refuses, by triggers that raise its errors.

use tower_idempotency::PostgresStore;
use tower_idempotency::store::{Begin, Ownership, Store, StoreErrorKind};

use super::database::Database;
use crate::entry::{MINUTE, claim, key, must_start, record};

/// Raises an error from the next writes: so many, at once or not before they are committed.
async fn raise(database: &Database, code: &str, times: u32, at_commit: bool) {
    let (constraint, deferred, when) = if at_commit {
        ("CONSTRAINT", "DEFERRABLE INITIALLY DEFERRED", "AFTER")
    } else {
        ("", "", "BEFORE")
    };
    database
        .ask(&format!(
            "DROP TRIGGER IF EXISTS refuse ON idempotency;
             DROP SEQUENCE IF EXISTS attempts;
             CREATE SEQUENCE attempts;
             CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF nextval('attempts') <= {times} THEN
                     RAISE EXCEPTION 'refused' USING ERRCODE = '{code}';
                 END IF;
                 IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
                 RETURN NEW;
             END $$;
             CREATE {constraint} TRIGGER refuse {when} INSERT OR UPDATE OR DELETE ON idempotency
                 {deferred} FOR EACH ROW EXECUTE FUNCTION refuse()"
        ))
        .await;
}

/// Takes each step of an owner, and cleans, each time after the next writes were made to fail.
async fn every_step(database: &Database, store: &PostgresStore, code: &str, at_commit: bool) {
    let what = format!("{code}, at commit: {at_commit}");
    let (first, second) = (key(1), key(2));
    let (one, other) = (claim(), claim());
    let fail_twice = async || raise(database, code, 2, at_commit).await;
    fail_twice().await;
    must_start(store.begin(&first, &one, MINUTE).await);
    must_start(store.begin(&second, &other, MINUTE).await);
    fail_twice().await;
    let renewed = store.renew(&first, one.owner(), MINUTE).await;
    assert_eq!(renewed.unwrap(), Ownership::Held, "{what}");
    fail_twice().await;
    let record = record(b"{}");
    let completed = store.complete(&first, one.owner(), &record, MINUTE);
    assert_eq!(completed.await.unwrap(), Ownership::Held, "{what}");
    fail_twice().await;
    let released = store.release(&second, other.owner()).await;
    assert_eq!(released.unwrap(), Ownership::Held, "{what}");
    raise(database, code, 0, false).await;
    database
        .ask("UPDATE idempotency SET expires = now() - interval '1 s'")
        .await;
    fail_twice().await;
    assert_eq!(store.clean().await.unwrap(), 1, "{what}");
}

/// No step is reported that was not committed.
#[tokio::test]
async fn a_step_that_loses_a_race_is_taken_again_also_if_it_loses_it_at_commit() {
    let test = "a_step_that_loses_a_race_is_taken_again_also_if_it_loses_it_at_commit";
    let Some(database) = Database::of(test).await else {
        return;
    };
    let store = database.store().await;
    for code in ["40001", "40P01"] {
        for at_commit in [false, true] {
            every_step(&database, &store, code, at_commit).await;
        }
    }
    database.remove().await;
}

/// As with a disk that is full: new keys are refused, and what is there is found.
#[tokio::test]
async fn a_server_without_room_replays_what_is_kept_and_refuses_what_runs() {
    let test = "a_server_without_room_replays_what_is_kept_and_refuses_what_runs";
    let Some(database) = Database::of(test).await else {
        return;
    };
    let store = database.store().await;
    let (done, running, ended, kept) = (key(1), key(2), key(3), record(b"{\"id\":1}"));
    let by = claim();
    for key in [&done, &running, &ended] {
        must_start(store.begin(key, &by, MINUTE).await);
    }
    let held = store.complete(&done, by.owner(), &kept, MINUTE).await;
    assert_eq!(held.unwrap(), Ownership::Held);
    database
        .ask(
            "UPDATE idempotency SET expires = now() - interval '1 s'
             WHERE key = (SELECT key FROM idempotency ORDER BY key DESC LIMIT 1)",
        )
        .await;
    raise(&database, "53100", 1000, false).await;
    for _ in 0..3 {
        let replayed = store.begin(&done, &claim(), MINUTE).await.unwrap();
        assert!(matches!(replayed, Begin::Completed(found) if found == kept));
        let refused = store.begin(&running, &claim(), MINUTE).await.unwrap();
        assert!(matches!(refused, Begin::InProgress(_)));
        for new in [&ended, &key(4)] {
            let begun = store.begin(new, &claim(), MINUTE).await;
            assert_eq!(begun.unwrap_err().kind(), StoreErrorKind::Full);
        }
    }
    raise(&database, "53100", 0, false).await;
    must_start(store.begin(&key(4), &claim(), MINUTE).await);
    database.remove().await;
}
