//! A server that is spoken to by TLS, with certificates that the test makes.

use std::fs;
use std::process::Command;

use support::certificates::Certificates;
use support::entry::{MINUTE, claim, key, record};
use tower_idempotency::RedisStore;
use tower_idempotency::store::{Begin, Ownership, Store};

use crate::cluster_support::process;
use crate::server::Server;

#[test]
fn a_server_is_spoken_to_by_tls_if_its_certificate_is_trusted_and_has_its_name() {
    let test = "a_server_is_spoken_to_by_tls";
    let [port] = process::free_ports();
    let folder = std::env::temp_dir().join(format!("idempotency-tls-{port}"));
    fs::create_dir_all(&folder).unwrap();
    let Some(made) = Certificates::make(test, &folder) else {
        return;
    };
    let (port, ca, cert) = (port.to_string(), made.authority(), made.certificate());
    let settings = [
        ["--tls-port", &port],
        ["--tls-cert-file", &cert],
        ["--tls-key-file", &made.key()],
        ["--tls-ca-cert-file", &ca],
        ["--tls-auth-clients", "no"],
    ];
    let Some(_server) = Server::start_with(test, settings.as_flattened()) else {
        return;
    };
    let runs = [
        (format!("rediss://localhost:{port}/"), &ca, "works"),
        // Any other authority, and any other name.
        (format!("rediss://localhost:{port}/"), &cert, "fails"),
        (format!("rediss://127.0.0.1:{port}/"), &ca, "fails"),
        (format!("redis://localhost:{port}/"), &ca, "fails"),
    ];
    for (url, trusted, outcome) in runs {
        // What is trusted is in the environment, which a process must not change under its threads.
        let run = Command::new(std::env::current_exe().unwrap())
            .args(["tls::client", "--exact", "--nocapture"])
            .env("SSL_CERT_FILE", trusted)
            .env(URL, &url)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success(), "{url}: {run:?}");
        assert!(
            said.contains(&format!("the store {outcome}")),
            "{url}: {said}"
        );
    }
    fs::remove_dir_all(folder).unwrap();
}

/// What the test above runs in a process of its own; by itself, nothing.
#[tokio::test]
async fn client() {
    let Ok(url) = std::env::var(URL) else {
        return;
    };
    let store = match RedisStore::connect(&url).await {
        Ok(store) => store,
        Err(error) => return println!("the store fails: {error:?}"),
    };
    store.check().await.unwrap();
    let (key, claim) = (key(1), claim());
    store.begin(&key, &claim, MINUTE).await.unwrap();
    let record = record(b"{}");
    let held = store.complete(&key, claim.owner(), &record, MINUTE).await;
    assert_eq!(held.unwrap(), Ownership::Held);
    let found = store.begin(&key, &claim, MINUTE).await.unwrap();
    assert!(matches!(found, Begin::Completed(found) if found == record));
    println!("the store works");
}

const URL: &str = "TEST_TLS_URL";
