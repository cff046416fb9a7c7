//! Several processes on one server.

use crate::cluster_support::{crash, race, waiting};
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

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_another_process_is_waited_for() {
    let Some(server) = AnyServer::find("the_answer_of_another_process_is_waited_for") else {
        return;
    };
    waiting::the_answer_of_another_process_is_waited_for(server.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_killed_process_is_run_by_one_waiter() {
    let Some(server) = AnyServer::find("the_key_of_a_killed_process_is_run_by_one_waiter") else {
        return;
    };
    waiting::the_key_of_a_killed_process_is_run_by_one_waiter(server.url()).await;
}
