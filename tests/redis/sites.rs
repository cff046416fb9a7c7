//! Two sites that both take writes, as in active-active replication.

use tower_idempotency::store::DynStore;
use tower_idempotency::{IdempotencyLayer, Outcome, RedisStore};

use crate::cluster_support::api;
use crate::cluster_support::counted::Counted;
use crate::server::Server;

/// What active-active replication means, by two masters whose data meet afterwards: the record of one
/// site replaces that of the other.
#[tokio::test]
async fn two_sites_that_take_writes_both_run_a_key_and_one_record_replaces_the_other() {
    let test = "two_sites_that_take_writes_both_run_a_key";
    let (Some(here), Some(there)) = (Server::start(test), Server::start(test)) else {
        return;
    };
    let counted = Counted::default();
    let mut sites = Vec::new();
    for server in [&here, &there] {
        let store = DynStore::new(RedisStore::connect(&server.url()).await.unwrap());
        // Neither site says that anything is wrong.
        RedisStore::connect(&server.url())
            .await
            .unwrap()
            .check()
            .await
            .unwrap();
        sites.push(counted.router(IdempotencyLayer::new(store)));
    }
    // The first run goes on while the second one comes: each site has claimed the key for itself.
    let running = counted.start(&sites[0], "payment").await;
    let at_home = api::call(&sites[0], "payment").await;
    assert_eq!(at_home.outcome, Outcome::InProgress);
    let other = api::call(&sites[1], "payment").await;
    assert_eq!(
        (other.outcome, &other.body[..]),
        (Outcome::Kept, &b"run 2"[..])
    );
    assert_eq!(running.end().await, Outcome::Kept);
    assert_eq!(counted.runs("payment"), 2);
    for (site, body) in sites.iter().zip(["run 1", "run 2"]) {
        let again = api::call(site, "payment").await;
        assert_eq!(
            (again.outcome, again.body),
            (Outcome::Replayed, body.into())
        );
    }

    let names: Vec<String> = here.ask("KEYS *");
    let port = there.address().port();
    let meet = format!("MIGRATE 127.0.0.1 {port} {} 0 5000 COPY REPLACE", names[0]);
    here.ask::<String>(&meet);
    let again = api::call(&sites[1], "payment").await;
    assert_eq!(
        (again.outcome, &again.body[..]),
        (Outcome::Replayed, &b"run 1"[..])
    );
    println!(
        "two sites: both ran the key; when they had met, the client of the second was replayed the \
         answer of the first"
    );
}
