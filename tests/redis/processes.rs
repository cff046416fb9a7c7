//! Several processes on one server.

use crate::cluster_support::{crash, race};
use crate::server::AnyServer;

#[tokio::test(flavor = "multi_thread")]
async fn two_and_four_processes_run_each_key_once() {
    let Some(server) = AnyServer::find("two_and_four_processes_run_each_key_once") else {
        return;
    };
    race::each_key_runs_once(server.url(), 2).await;
    race::each_key_runs_once(server.url(), 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_killed_process_come_free_within_a_lease_and_run_once_more() {
    let Some(server) = AnyServer::find("keys_of_a_killed_process_come_free") else {
        return;
    };
    crash::keys_of_a_killed_instance_come_free_within_a_lease(server.url()).await;
}
