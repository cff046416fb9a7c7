//! A server's clock that is set while the server is in use.

use std::time::Duration;

use tower_idempotency::RedisStore;
use tower_idempotency::store::DynStore;

use crate::cluster_support::{outage, steps};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_step_of_the_servers_clock_ends_what_has_less_left_and_prolongs_all_by_no_more() {
    let test = "a_step_of_the_servers_clock_ends_what_has_less_left";
    let Some((server, clock)) = Server::start_with_clock(test) else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let set = async |ahead: i64| {
        let by = Duration::from_secs(ahead.unsigned_abs());
        if ahead < 0 {
            clock.set_behind(by);
        } else {
            clock.set_ahead(by);
        }
    };
    steps::of_a_clock(DynStore::new(store), outage::EVERY, set).await;
}
