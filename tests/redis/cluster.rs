//! A Redis Cluster of three nodes.

use std::process::Command;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use redis::cluster::ClusterClient;
use tower_idempotency::RedisStore;
use tower_idempotency::store::{
    Begin, Claim, Fingerprint, Owner, Ownership, Record, RecordKey, Store, StoreErrorKind,
};

use crate::cluster_support::process;
use crate::server::Server;

/// Three nodes that have found each other.
pub(crate) struct Cluster {
    nodes: [Server; 3],
}

impl Cluster {
    pub(crate) fn start(test: &str) -> Option<Self> {
        let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        let [a, b, c] = process::free_ports_for_a_cluster();
        let nodes = [
            Server::start_at(test, a, &settings)?,
            Server::start_at(test, b, &settings)?,
            Server::start_at(test, c, &settings)?,
        ];
        let mut command = Command::new("redis-cli");
        command.args(["--cluster", "create"]);
        command.args(nodes.iter().map(|node| node.address().to_string()));
        let made = command.args(["--cluster-yes"]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        for node in &nodes {
            let start = Instant::now();
            loop {
                let info: String = redis::cmd("CLUSTER")
                    .arg("INFO")
                    .query(&mut node.look())
                    .unwrap();
                if info.contains("cluster_state:ok") {
                    break;
                }
                assert!(start.elapsed() < Duration::from_secs(60), "{info}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Some(Self { nodes })
    }

    pub(crate) async fn store(&self) -> RedisStore {
        let client = ClusterClient::new(self.nodes.iter().map(Server::url)).unwrap();
        RedisStore::new(client.get_async_connection().await.unwrap())
    }
}

#[tokio::test]
async fn a_cluster_spreads_the_keys_and_takes_every_step() {
    let Some(cluster) = Cluster::start("a_cluster_spreads_the_keys_and_takes_every_step") else {
        return;
    };
    let store = cluster.store().await;
    store.check().await.unwrap();
    // One node alone serves a third of the keys.
    let one = RedisStore::connect(&cluster.nodes[0].url()).await.unwrap();
    let unfit = one.check().await.unwrap_err();
    assert_eq!(unfit.kind(), StoreErrorKind::Misconfigured, "{unfit:?}");
    let minute = Duration::from_secs(60);
    let fingerprint = Fingerprint::from_bytes([1; 32]);
    let record = Record::new(
        fingerprint,
        StatusCode::CREATED,
        &HeaderMap::new(),
        Some(b"{}"),
    );
    for n in 0..60 {
        let (key, claim) = (
            RecordKey::from_bytes([n; 32]),
            Claim::new(Owner::new(), fingerprint),
        );
        let found = store.begin(&key, &claim, minute).await.unwrap();
        assert!(matches!(found, Begin::Started));
        assert_eq!(
            store.renew(&key, claim.owner(), minute).await.unwrap(),
            Ownership::Held
        );
        if n % 2 == 0 {
            assert_eq!(
                store.release(&key, claim.owner()).await.unwrap(),
                Ownership::Held
            );
            continue;
        }
        let held = store.complete(&key, claim.owner(), &record, minute).await;
        assert_eq!(held.unwrap(), Ownership::Held);
        let found = store.begin(&key, &claim, minute).await.unwrap();
        assert!(matches!(found, Begin::Completed(found) if found == record));
    }
    let kept = cluster.nodes.each_ref().map(|node| {
        redis::cmd("DBSIZE")
            .query::<usize>(&mut node.look())
            .unwrap()
    });
    assert_eq!(kept.iter().sum::<usize>(), 30);
    assert!(kept.iter().all(|&kept| kept > 0), "{kept:?}");
}
