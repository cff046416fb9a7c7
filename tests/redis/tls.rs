//! A server that is spoken to by TLS, with certificates that the test makes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use support::certificates::Certificates;
use support::entry::{MINUTE, claim, key, record};
use tower_idempotency::RedisStore;
use tower_idempotency::store::{Begin, Ownership, Store};

use crate::cluster_support::process;
use crate::sentinel::Sentinel;
use crate::server::Server;

/// Certificates in a folder that ends with the test.
struct Made {
    folder: PathBuf,
    certificates: Certificates,
}

impl Made {
    /// Makes them, or says that the test is left out.
    fn for_test(test: &str) -> Option<Self> {
        let [port] = process::free_ports();
        let folder = std::env::temp_dir().join(format!("idempotency-tls-{port}"));
        fs::create_dir_all(&folder).unwrap();
        let certificates = Certificates::make(test, &folder)?;
        Some(Self {
            folder,
            certificates,
        })
    }

    /// Returns the settings of a server that is spoken to by TLS at a port.
    fn settings(&self, port: u16) -> [(&'static str, String); 5] {
        [
            ("tls-port", port.to_string()),
            ("tls-cert-file", self.certificates.certificate()),
            ("tls-key-file", self.certificates.key()),
            ("tls-ca-cert-file", self.certificates.authority()),
            ("tls-auth-clients", "no".to_owned()),
        ]
    }

    /// Starts such a server.
    fn server(&self, test: &str, port: u16) -> Option<Server> {
        let settings = self.settings(port);
        let settings = settings.map(|(name, value)| [format!("--{name}"), value]);
        let settings: Vec<_> = settings.as_flattened().iter().map(String::as_str).collect();
        Server::start_with(test, &settings)
    }

    /// Returns an authority that is to be trusted, and one that did not sign the certificate.
    fn authorities(&self) -> [String; 2] {
        [
            self.certificates.authority(),
            self.certificates.certificate(),
        ]
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Runs a store in a process that trusts one authority, and checks whether it works or fails.
fn must(outcome: &str, trusted: &str, url: &str, sentinel: Option<&str>) {
    // What is trusted is in the environment, which a process must not change under its threads.
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["tls::client", "--exact", "--nocapture"])
        .env("SSL_CERT_FILE", trusted)
        .env(URL, url)
        .envs(sentinel.map(|sentinel| (SENTINEL, sentinel)))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    let at = format!("{url}, by {sentinel:?}");
    assert!(run.status.success(), "{at}: {run:?}");
    assert!(
        said.contains(&format!("the store {outcome}")),
        "{at}: {said}"
    );
}

#[test]
fn a_server_is_spoken_to_by_tls_if_its_certificate_is_trusted_and_has_its_name() {
    let test = "a_server_is_spoken_to_by_tls";
    let Some(made) = Made::for_test(test) else {
        return;
    };
    let [port] = process::free_ports();
    let Some(_server) = made.server(test, port) else {
        return;
    };
    let [ca, other] = made.authorities();
    must("works", &ca, &format!("rediss://localhost:{port}/"), None);
    // Any other authority, and any other name.
    must(
        "fails",
        &other,
        &format!("rediss://localhost:{port}/"),
        None,
    );
    must("fails", &ca, &format!("rediss://127.0.0.1:{port}/"), None);
    must("fails", &ca, &format!("redis://localhost:{port}/"), None);
}

#[test]
fn sentinels_are_spoken_to_by_tls_as_their_urls_say_and_so_is_the_master_as_its_own_says() {
    let test = "sentinels_are_spoken_to_by_tls";
    let Some(made) = Made::for_test(test) else {
        return;
    };
    let [port, of_sentinel] = process::free_ports();
    let Some(_master) = made.server(test, port) else {
        return;
    };
    // They give a name, since that is what the certificate has.
    let mut settings = "tls-replication yes\nsentinel resolve-hostnames yes\n\
                        sentinel announce-hostnames yes\n"
        .to_owned();
    for (name, value) in made.settings(of_sentinel) {
        settings += &format!("{name} {value}\n");
    }
    let master = format!("localhost {port}");
    let never = Duration::from_secs(3600);
    let _sentinel = Sentinel::start_with(&settings, &master, 1, never);
    let [ca, other] = made.authorities();
    let by_tls = format!("rediss://localhost:{of_sentinel}/");
    let plain = format!("redis://localhost:{of_sentinel}/");
    must("works", &ca, "rediss://mymaster/", Some(&by_tls));
    must("fails", &other, "rediss://mymaster/", Some(&by_tls));
    must("fails", &ca, "rediss://mymaster/", Some(&plain));
    must("fails", &ca, "redis://mymaster/", Some(&by_tls));
}

/// What the tests above run in a process of its own; by itself, nothing.
#[tokio::test]
async fn client() {
    let Ok(url) = std::env::var(URL) else {
        return;
    };
    let connected = match std::env::var(SENTINEL) {
        Ok(sentinel) => RedisStore::connect_sentinel([sentinel], &url).await,
        Err(_) => RedisStore::connect(&url).await,
    };
    let store = match connected {
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
const SENTINEL: &str = "TEST_TLS_SENTINEL";
