//! The store's own connections.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tower_idempotency::PostgresStore;
use tower_idempotency::store::{Begin, Ownership, Store, StoreErrorKind};

use super::database::Database;
use super::hole::Hole;
use super::server::Server;
use crate::cluster_support::process;
use crate::cluster_support::proxy::Proxy;
use crate::entry::{MINUTE, claim, key, must_start};

#[tokio::test]
async fn a_claim_whose_reply_is_lost_is_made_all_the_same_and_is_its_owners() {
    let Some(server) = Server::start("a_claim_whose_reply_is_lost") else {
        return;
    };
    let proxy = Arc::new(Proxy::before(server.address()).await);
    let url = format!("postgres://postgres@{}/postgres", proxy.address());
    let store = PostgresStore::connect(&url).await.unwrap();
    store.migrate().await.unwrap();
    // So that the statement is prepared, and the next reply is that to the claim itself.
    must_start(store.begin(&key(0), &claim(), MINUTE).await);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let claim = claim();
    proxy.lose_replies(1);
    must_start(store.begin(&key(1), &claim, MINUTE).await);
    assert!(proxy.has_lost_all());
    let held = store.release(&key(1), claim.owner()).await.unwrap();
    assert_eq!(held, Ownership::Held);
}

/// The server was restarted while nobody asked: all connections of the pool are dead.
#[tokio::test]
async fn connections_that_died_while_nobody_asked_cost_no_request_its_protection() {
    let Some(mut server) = Server::start("connections_that_died_while_nobody_asked") else {
        return;
    };
    let store = PostgresStore::connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    let all = async |first: u32| {
        let mut requests = JoinSet::new();
        for n in first..first + 10 {
            let store = store.clone();
            requests.spawn(async move { store.begin(&key(n), &claim(), MINUTE).await });
        }
        requests.join_all().await.into_iter().for_each(must_start);
    };
    all(0).await;
    server.kill();
    server.run();
    tokio::time::sleep(Duration::from_secs(1)).await;
    all(10).await;
}

/// More requests give up on a server that hangs than there are connections. From some moment on they
/// do not wait any more, and when the server goes on, it is used.
#[tokio::test]
async fn requests_that_gave_up_leave_no_connection_occupied() {
    let Some(server) = Server::start("requests_that_gave_up") else {
        return;
    };
    let store = PostgresStore::connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    must_start(store.begin(&key(0), &claim(), MINUTE).await);
    server.stop();
    for round in 0..3 {
        let mut requests = JoinSet::new();
        for n in 0..12 {
            let store = store.clone();
            requests.spawn(async move {
                let (key, claim) = (key(round * 12 + n), claim());
                let begun = store.begin(&key, &claim, MINUTE);
                let begun = timeout(Duration::from_millis(300), begun).await;
                assert!(!matches!(begun, Ok(Ok(_))), "{begun:?}");
            });
        }
        requests.join_all().await;
    }
    let begun = store.begin(&key(100), &claim(), MINUTE).await;
    assert_eq!(begun.unwrap_err().kind(), StoreErrorKind::Unavailable);
    server.resume();
    let start = Instant::now();
    while store.begin(&key(100), &claim(), MINUTE).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(30), "not used again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// All connections are dead, and nothing says so: each is given up after a request that no longer
/// waits, and then another is made. They may be the store's own, or the application's.
#[tokio::test]
async fn a_connection_that_is_dead_without_a_word_is_given_up_after_its_request() {
    const CONNECTIONS: u32 = 3;
    let test = "a_connection_that_is_dead_without_a_word_is_given_up";
    let Some(server) = Server::start(test) else {
        return;
    };
    for (round, is_own) in [(0, true), (1, false)] {
        let hole = Hole::before(server.address()).await;
        let url = format!("postgres://postgres@{}/postgres", hole.address());
        let pool = PgPoolOptions::new()
            .min_connections(CONNECTIONS)
            .max_connections(CONNECTIONS)
            .test_before_acquire(false);
        let pool = pool.connect(&url).await.unwrap();
        let (store, steps) = if is_own {
            (PostgresStore::new(pool), CONNECTIONS - 1)
        } else {
            (PostgresStore::sharing(pool), CONNECTIONS)
        };
        store.migrate().await.unwrap();
        let first = round * 1000;
        let mut requests = JoinSet::new();
        for n in first..first + steps {
            let store = store.clone();
            requests.spawn(async move { store.begin(&key(n), &claim(), MINUTE).await });
        }
        requests.join_all().await.into_iter().for_each(must_start);
        tokio::time::sleep(Duration::from_millis(200)).await;
        hole.swallow();
        for n in first + 100..first + 100 + steps {
            let (key, claim) = (key(n), claim());
            let begun = store.begin(&key, &claim, MINUTE);
            let begun = timeout(Duration::from_millis(300), begun).await;
            assert!(!matches!(begun, Ok(Ok(_))), "{begun:?}");
        }
        let start = Instant::now();
        while store
            .begin(&key(first + 200), &claim(), MINUTE)
            .await
            .is_err()
        {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "no new connection"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!(
            "PostgreSQL, all connections dead without a word: replaced after {:?}",
            start.elapsed()
        );
    }
}

/// Handlers hold all connections of the application's pool.
#[tokio::test]
async fn a_store_made_of_a_pool_needs_none_of_its_connections_and_a_sharing_one_does() {
    let test = "a_store_made_of_a_pool_needs_none_of_its_connections";
    let Some(database) = Database::of(test).await else {
        return;
    };
    let named = PgPoolOptions::new()
        .max_connections(2)
        .after_connect(|connection, _| {
            let named = "SET application_name = 'named by a hook'";
            Box::pin(async move { sqlx::raw_sql(named).execute(connection).await.map(drop) })
        });
    let pool = named.connect(database.url()).await.unwrap();
    let (own, sharing) = (
        PostgresStore::new(pool.clone()),
        PostgresStore::sharing(pool.clone()),
    );
    own.migrate().await.unwrap();
    let held = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    must_start(own.begin(&key(1), &claim(), MINUTE).await);
    let (first, by) = (key(1), claim());
    let begun = sharing.begin(&first, &by, MINUTE);
    assert!(timeout(Duration::from_millis(300), begun).await.is_err());
    drop(held);
    let begun = sharing.begin(&first, &by, MINUTE).await;
    assert!(matches!(begun, Ok(Begin::InProgress(_))), "{begun:?}");
    // Two of the pool, and those of the store.
    let named = "SELECT FROM pg_stat_activity WHERE application_name = 'named by a hook'";
    assert!(database.ask(named).await.len() > 2);
    drop(own);
    database.remove().await;
}

#[tokio::test]
async fn a_lazy_store_starts_without_its_server_and_finds_it_later() {
    let [port] = process::free_ports();
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    assert!(PostgresStore::connect("no address").await.is_err());
    let store = PostgresStore::connect_lazy(&url).unwrap();
    let (first, claim) = (key(1), claim());
    let begun = store.begin(&first, &claim, MINUTE);
    assert!(!matches!(
        timeout(Duration::from_millis(300), begun).await,
        Ok(Ok(_))
    ));
    let Some(database) = Database::of("a_lazy_store_starts_without_its_server").await else {
        return;
    };
    let store = PostgresStore::connect_lazy(database.url()).unwrap();
    store.migrate().await.unwrap();
    must_start(store.begin(&first, &claim, MINUTE).await);
    let begun = store.begin(&first, &self::claim(), MINUTE).await;
    assert!(matches!(begun, Ok(Begin::InProgress(_))));
    database.remove().await;
}
