//! Errors that a server gives by itself.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::{Instant, sleep, timeout};
use tower_idempotency::PostgresStore;
use tower_idempotency::store::{Begin, Ownership, Store, StoreErrorKind};

use super::server::Server;
use crate::cluster_support::process;
use crate::entry::{MINUTE, claim, key, must_start, record};

/// A session dies, as by a fault of the server or for want of memory, and the server ends all others
/// (a warning 57P02) and recovers, during which it takes no connection (57P03).
#[tokio::test]
async fn a_server_that_recovers_from_a_session_that_died_is_used_as_soon_as_it_has() {
    let test = "a_server_that_recovers_from_a_session_that_died";
    let Some(server) = Server::start(test) else {
        return;
    };
    let store = PostgresStore::connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    let (done, by, kept) = (key(1), claim(), record(b"{}"));
    must_start(store.begin(&done, &by, MINUTE).await);
    let held = store.complete(&done, by.owner(), &kept, MINUTE).await;
    assert_eq!(held.unwrap(), Ownership::Held);
    for n in 0..3 {
        let [mut victim, mut witness] = [session(&server).await, session(&server).await];
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut victim);
        let pid: i32 = pid.await.unwrap();
        process::signal(pid.cast_unsigned(), "KILL");
        // Until the server has noticed.
        while witness.execute(sqlx::raw_sql("SELECT")).await.is_ok() {}
        let recovered = tokio::spawn({
            let url = server.url();
            async move {
                while PgConnection::connect(&url).await.is_err() {
                    sleep(Duration::from_millis(5)).await;
                }
                Instant::now()
            }
        });
        let (start, claim) = (Instant::now(), claim());
        loop {
            match timeout(WAIT, store.begin(&key(100 + n), &claim, MINUTE)).await {
                Ok(Ok(begun)) => break must_start(Ok(begun)),
                Ok(Err(error)) => {
                    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
                }
                Err(_) => {}
            }
            assert!(start.elapsed() < MINUTE, "not used again");
            sleep(Duration::from_millis(1)).await;
        }
        let back = Instant::now();
        let recovered = recovered.await.unwrap();
        println!(
            "PostgreSQL, a session dies, and the server recovers for {:?}: protected again {:?} after \
             that",
            recovered - start,
            back.saturating_duration_since(recovered)
        );
        // A look at the server that began before can still say that it is down.
        let found = loop {
            match store.begin(&done, &by, MINUTE).await {
                Ok(found) => break found,
                Err(error) => assert!(start.elapsed() < MINUTE, "{error:?}"),
            }
            sleep(Duration::from_millis(1)).await;
        };
        assert!(matches!(found, Begin::Completed(found) if found == kept));
    }
}

async fn session(server: &Server) -> PgConnection {
    PgConnection::connect(&server.url()).await.unwrap()
}

/// What a request waits for the store.
const WAIT: Duration = Duration::from_millis(300);

/// A server that waits for a session before it ends takes no connection (57P03).
#[tokio::test]
async fn a_server_that_takes_no_connection_serves_those_that_are_there() {
    let test = "a_server_that_takes_no_connection_serves_those_that_are_there";
    let Some(server) = Server::start(test) else {
        return;
    };
    let store = PostgresStore::connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    must_start(store.begin(&key(1), &claim(), MINUTE).await);
    process::signal(server.pid(), "TERM");
    let start = Instant::now();
    while PgConnection::connect(&server.url()).await.is_ok() {
        assert!(start.elapsed() < MINUTE, "the server does not end");
    }
    let refused = PgConnection::connect(&server.url()).await.unwrap_err();
    let code = refused.as_database_error().and_then(DatabaseError::code);
    assert_eq!(code.as_deref(), Some("57P03"), "{refused:?}");
    // Tried for some seconds, in which a server that starts would have started.
    let error = PostgresStore::connect(&server.url()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Timeout, "{error:?}");
    must_start(store.begin(&key(3), &claim(), MINUTE).await);
}

/// A column is changed while the statements that read it are prepared (0A000), and changed back.
#[tokio::test]
async fn a_column_of_another_type_is_a_fault_of_the_setup_until_it_is_changed_back() {
    let test = "a_column_of_another_type_is_a_fault_of_the_setup";
    let Some(server) = Server::start(test) else {
        return;
    };
    let store = PostgresStore::connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    let (done, by, kept) = (key(1), claim(), record(b"{}"));
    must_start(store.begin(&done, &by, MINUTE).await);
    let held = store.complete(&done, by.owner(), &kept, MINUTE).await;
    assert_eq!(held.unwrap(), Ownership::Held);
    let alter = "ALTER TABLE idempotency ALTER COLUMN entry TYPE";
    server
        .ask(&format!("{alter} text USING encode(entry, 'hex')"))
        .await;
    for n in 0..3 {
        let error = store.begin(&key(10 + n), &claim(), MINUTE).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error:?}");
    }
    // The server has turned claims into text, which is no entry.
    let undo = format!(
        "DELETE FROM idempotency WHERE entry LIKE E'\\\\\\\\x%'; \
         {alter} bytea USING decode(entry, 'hex')"
    );
    server.ask(&undo).await;
    let found = store.begin(&done, &claim(), MINUTE).await.unwrap();
    assert!(matches!(found, Begin::Completed(found) if found == kept));
    must_start(store.begin(&key(10), &claim(), MINUTE).await);
}
