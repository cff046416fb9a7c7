//! Two servers that both take writes.

use tower_idempotency::PostgresStore;
use tower_idempotency::store::{Begin, Ownership, Store};

use super::server::Server;
use crate::entry::{MINUTE, claim, key, must_start, record};

/// What one of them has done is not there when the other one is asked, whether it is sent there later
/// or never: a claim must be true at the moment at which it is made.
#[tokio::test]
async fn each_of_two_primaries_claims_a_key_for_itself_and_keeps_its_own_response() {
    let test = "each_of_two_primaries_claims_a_key_for_itself";
    let (Some(here), Some(there)) = (Server::start(test), Server::start(test)) else {
        return;
    };
    let mut stores = Vec::new();
    for server in [&here, &there] {
        let store = PostgresStore::connect(&server.url()).await.unwrap();
        store.migrate().await.unwrap();
        // It can't see that there is another.
        store.check().await.unwrap();
        stores.push(store);
    }
    let key = key(1);
    let runs = [(claim(), record(b"here")), (claim(), record(b"there"))];
    for (store, (claim, _)) in stores.iter().zip(&runs) {
        must_start(store.begin(&key, claim, MINUTE).await);
    }
    for (store, (claim, record)) in stores.iter().zip(&runs) {
        let held = store.complete(&key, claim.owner(), record, MINUTE).await;
        assert_eq!(held.unwrap(), Ownership::Held);
    }
    for (store, (_, record)) in stores.iter().zip(&runs) {
        let found = store.begin(&key, &claim(), MINUTE).await.unwrap();
        assert!(matches!(found, Begin::Completed(found) if found == *record));
    }
    println!("PostgreSQL, two primaries: one key, sent to both, ran twice, and each keeps its own");
}
