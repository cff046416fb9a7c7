//! A server's clock that is set while the server is in use.

use tower_idempotency::RedisStore;
use tower_idempotency::store::DynStore;

use crate::cluster_support::clock_steps;
use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_step_of_the_servers_clock_ends_what_has_less_left_and_prolongs_all_by_no_more() {
    let test = "a_step_of_the_servers_clock_ends_what_has_less_left";
    let Some((server, clock)) = Server::start_with_clock(test) else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    println!("Redis:");
    // What had ended may be gone or not when its end is to come again: the server removes it by and by.
    clock_steps::are_as_documented(DynStore::new(store.clone()), &clock).await;
    store.check().await.unwrap();
}
