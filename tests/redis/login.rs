//! How the store logs in: the protocol, the user, its permissions, the database.

use std::net::SocketAddr;
use std::time::Instant;

use support::entry::{MINUTE, claim, key};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tower_idempotency::RedisStore;
use tower_idempotency::store::{Begin, Store, StoreErrorKind};

use crate::server::Server;

const MISCONFIGURED: StoreErrorKind = StoreErrorKind::Misconfigured;

/// Returns whether a connection of this version is there, besides the one that asks.
fn is_spoken(server: &Server, version: u8) -> bool {
    let clients: String = server.ask("CLIENT LIST");
    let mut clients = clients
        .lines()
        .filter(|client| !client.contains("cmd=client"));
    clients.any(|client| client.contains(&format!("resp={version}")))
}

async fn must_work(store: &RedisStore, n: u32) {
    let begun = store.begin(&key(n), &claim(), MINUTE).await;
    assert!(matches!(begun, Ok(Begin::Started)), "{begun:?}");
    store.check().await.unwrap();
}

#[tokio::test]
async fn the_newer_protocol_is_spoken_unless_the_url_says_otherwise() {
    let test = "the_newer_protocol_is_spoken_unless_the_url_says_otherwise";
    let Some(server) = Server::start(test) else {
        return;
    };
    let ways = [
        ("", 3),
        ("?protocol=resp3", 3),
        ("?protocol=resp2", 2),
        ("?protocol=2", 2),
    ];
    for (n, (query, version)) in (0..).zip(ways) {
        let url = format!("{}{query}", server.url());
        let store = RedisStore::connect(&url).await.unwrap();
        must_work(&store, n).await;
        assert!(is_spoken(&server, version), "{query}");
        assert!(!is_spoken(&server, 5 - version), "{query}");
        drop(store);
        // Its connection is gone when the server has seen the end.
        let start = Instant::now();
        while is_spoken(&server, version) {
            assert!(start.elapsed() < support::PATIENCE);
            tokio::task::yield_now().await;
        }
    }
    let unknown = RedisStore::connect(&format!("{}?protocol=resp4", server.url())).await;
    assert_eq!(unknown.unwrap_err().kind(), MISCONFIGURED);
}

#[tokio::test]
async fn a_server_without_hello_is_spoken_to_by_version_2() {
    let test = "a_server_without_hello_is_spoken_to_by_version_2";
    let Some(server) = Server::start_with(test, &["--rename-command", "HELLO", ""]) else {
        return;
    };
    must_work(&RedisStore::connect(&server.url()).await.unwrap(), 1).await;
    let address = server.address();
    server.ask::<()>("ACL SETUSER store on >secret ~* +@all");
    let url = format!("redis://store:secret@{address}/3");
    must_work(&RedisStore::connect(&url).await.unwrap(), 2).await;
}

/// As some proxies do at a command that they do not know.
#[tokio::test]
async fn a_proxy_that_cuts_a_connection_at_hello_is_spoken_to_by_version_2() {
    let test = "a_proxy_that_cuts_a_connection_at_hello_is_spoken_to_by_version_2";
    let Some(server) = Server::start(test) else {
        return;
    };
    let proxy = proxy_without_hello(server.address()).await;
    let store = RedisStore::connect(&format!("redis://{proxy}/")).await;
    must_work(&store.unwrap(), 1).await;
}

async fn proxy_without_hello(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut first = vec![0; 4096];
                let read = client.read(&mut first).await?;
                if first[..read].windows(5).any(|word| word == b"HELLO") {
                    return Ok(());
                }
                let mut server = TcpStream::connect(server).await?;
                server.write_all(&first[..read]).await?;
                copy_bidirectional(&mut client, &mut server).await?;
                std::io::Result::Ok(())
            });
        }
    });
    address
}

/// What the docs of `RedisStore` list.
const COMMANDS: [&str; 7] = [
    "set", "get", "getrange", "pexpire", "del", "eval", "evalsha",
];

#[tokio::test]
async fn the_permissions_in_the_docs_are_enough_and_each_is_needed() {
    let test = "the_permissions_in_the_docs_are_enough_and_each_is_needed";
    let Some(server) = Server::start(test) else {
        return;
    };
    let url = format!("redis://store:secret@{}", server.address());
    let allow = |commands: &[&str]| {
        let commands: Vec<_> = commands.iter().map(|name| format!("+{name}")).collect();
        let rules = format!(
            "ACL SETUSER store reset on >secret ~vms:* {}",
            commands.join(" ")
        );
        server.ask::<()>(&rules);
        // A script that is there needs no `EVAL`.
        server.ask::<()>("SCRIPT FLUSH");
    };
    let open = async |path: &str| {
        let url = format!("{url}{path}?protocol=resp3");
        RedisStore::connect(&url)
            .await
            .map(|store| store.key_prefix("vms:"))
    };

    allow(&COMMANDS);
    let store = open("/").await.unwrap();
    must_work(&store, 1).await;
    let elsewhere = store.key_prefix("others:").check().await.unwrap_err();
    assert_eq!(elsewhere.kind(), MISCONFIGURED);
    for missing in COMMANDS {
        let others = COMMANDS.map(|name| if name == missing { "ping" } else { name });
        allow(&others);
        let unfit = open("/").await.unwrap().check().await.expect_err(missing);
        assert_eq!(unfit.kind(), MISCONFIGURED, "{missing}: {unfit:?}");
    }

    // A database of the URL needs one more, and `check` reads the settings where it may.
    allow(&COMMANDS);
    assert_eq!(open("/2").await.unwrap_err().kind(), MISCONFIGURED);
    allow(&[&COMMANDS[..], &["select", "info"]].concat());
    must_work(&open("/2").await.unwrap(), 2).await;
}

#[tokio::test]
async fn a_user_a_password_or_a_database_that_is_refused_is_a_misconfiguration() {
    let test = "a_user_a_password_or_a_database_that_is_refused";
    let Some(server) = Server::start(test) else {
        return;
    };
    server.ask::<()>("ACL SETUSER store on >secret ~* +@all");
    server.ask::<()>("CONFIG SET requirepass other");
    let address = server.address();
    let logins = ["", "store:wrong@", ":wrong@", "nobody:secret@"];
    for query in ["", "?protocol=resp2"] {
        for login in logins {
            let url = format!("redis://{login}{address}/{query}");
            let refused = match RedisStore::connect(&url).await {
                // Without a password, version 2 says nothing before the first command.
                Ok(store) => store.check().await.unwrap_err(),
                Err(refused) => refused,
            };
            assert_eq!(refused.kind(), MISCONFIGURED, "{url}: {refused:?}");
        }
        let url = format!("redis://store:secret@{address}/99{query}");
        let refused = RedisStore::connect(&url).await.unwrap_err();
        assert_eq!(refused.kind(), MISCONFIGURED, "{url}: {refused:?}");
    }
    // A store that connects later says so as well, once the server has said it.
    let store = RedisStore::connect_lazy(&format!("redis://:wrong@{address}/")).unwrap();
    let start = Instant::now();
    while store
        .begin(&key(1), &claim(), MINUTE)
        .await
        .unwrap_err()
        .kind()
        != MISCONFIGURED
    {
        assert!(start.elapsed() < support::PATIENCE);
        tokio::task::yield_now().await;
    }
}
