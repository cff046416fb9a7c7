//! A server that is spoken to by TLS, with certificates that the test makes.

use std::error::Error;
use std::time::Duration;

use sqlx::Row;
use support::certificates::Certificates;
use tokio::time::{Instant, sleep};
use tower_idempotency::store::{Begin, Ownership, Store, StoreErrorKind};
use tower_idempotency::{PostgresStore, StoreError};

use super::server::{self, Server};
use crate::entry::{MINUTE, claim, key, must_start, record};

/// What comes of it: whether TLS is used, or a word of what is said.
type Outcome = Result<bool, &'static str>;

#[tokio::test]
async fn a_server_is_spoken_to_by_tls_and_what_is_not_agreed_on_is_a_fault_of_the_setup() {
    let test = "a_server_is_spoken_to_by_tls";
    let Some(server) = Server::start(test) else {
        return;
    };
    let Some(made) = Certificates::make(test, server.folder()) else {
        return;
    };
    server::own(server.folder().to_str().unwrap());
    let (cert, key, ca) = (made.certificate(), made.key(), made.authority());
    let set = format!(
        "ALTER SYSTEM SET ssl_cert_file = '{cert}'; ALTER SYSTEM SET ssl_key_file = '{key}'; \
         ALTER SYSTEM SET ssl = on; SELECT pg_reload_conf()"
    );
    let port = server.address().port();
    let url = |host, mode, trusted| {
        format!(
            "postgres://postgres@{host}:{port}/postgres?application_name=store&sslmode={mode}\
             &sslrootcert={trusted}"
        )
    };
    let with: [(_, Outcome); 7] = [
        (url("localhost", "verify-full", &ca), Ok(true)),
        (url("127.0.0.1", "verify-ca", &ca), Ok(true)),
        (url("127.0.0.1", "prefer", &cert), Ok(true)),
        (url("127.0.0.1", "disable", &cert), Ok(false)),
        // Any other authority, and any other name.
        (url("localhost", "verify-full", &cert), Err("UnknownIssuer")),
        (url("127.0.0.1", "verify-ca", &cert), Err("UnknownIssuer")),
        (
            url("127.0.0.1", "verify-full", &ca),
            Err("not valid for name"),
        ),
    ];
    let without: [(_, Outcome); 4] = [
        (
            url("localhost", "verify-full", &ca),
            Err("does not support TLS"),
        ),
        (
            url("127.0.0.1", "require", &ca),
            Err("does not support TLS"),
        ),
        (url("127.0.0.1", "prefer", &ca), Ok(false)),
        (url("127.0.0.1", "disable", &ca), Ok(false)),
    ];
    let unset = "ALTER SYSTEM SET ssl = off; SELECT pg_reload_conf()".to_owned();
    for (set, ssl, cases) in [(set, "on", &with[..]), (unset, "off", &without[..])] {
        server.ask(&set).await;
        // A setting is not there at once.
        let start = Instant::now();
        while server.ask("SHOW ssl").await[0].get::<String, _>(0) != ssl {
            assert!(start.elapsed() < MINUTE, "TLS is not {ssl}");
            sleep(Duration::from_millis(5)).await;
        }
        for (url, outcome) in cases {
            agrees(&server, url, *outcome).await;
        }
    }
}

async fn agrees(server: &Server, url: &str, outcome: Outcome) {
    let store = PostgresStore::connect_lazy(url).unwrap();
    let word = match outcome {
        Ok(by_tls) => {
            PostgresStore::connect(url).await.unwrap();
            store.migrate().await.unwrap();
            store.check().await.unwrap();
            protects(&store).await;
            let used = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                        WHERE application_name = 'store'";
            let used: bool = server.ask(used).await[0].get(0);
            assert_eq!(used, by_tls, "{url}");
            server.ask("TRUNCATE idempotency").await;
            drop(store);
            return gone(server).await;
        }
        Err(word) => word,
    };
    let errors = [
        PostgresStore::connect(url).await.unwrap_err(),
        store.check().await.unwrap_err(),
        store.begin(&key(1), &claim(), MINUTE).await.unwrap_err(),
        // As before: nobody takes the server for one that is down.
        store.check().await.unwrap_err(),
        store.migrate().await.unwrap_err(),
    ];
    for error in errors {
        let said = said(&error);
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{url}: {said}");
        assert!(said.contains(word), "{url}: {said}");
    }
}

async fn protects(store: &PostgresStore) {
    let (key, claim, kept) = (key(1), claim(), record(b"{}"));
    must_start(store.begin(&key, &claim, MINUTE).await);
    let held = store.complete(&key, claim.owner(), &kept, MINUTE).await;
    assert_eq!(held.unwrap(), Ownership::Held);
    let found = store.begin(&key, &claim, MINUTE).await.unwrap();
    assert!(matches!(found, Begin::Completed(found) if found == kept));
}

/// Waits until the server has none of the store's sessions.
async fn gone(server: &Server) {
    let start = Instant::now();
    let left = "SELECT FROM pg_stat_activity WHERE application_name = 'store'";
    while !server.ask(left).await.is_empty() {
        assert!(start.elapsed() < MINUTE, "the store's sessions stay");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Returns an error with all that lies under it.
fn said(error: &StoreError) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        said += &format!(": {error}");
        source = error.source();
    }
    said
}
