//! Several processes on one database.

use super::database::Database;
use crate::cluster_support::{crash, race, waiting};

#[tokio::test(flavor = "multi_thread")]
async fn two_and_four_processes_run_each_key_once() {
    let Some(database) = Database::of("two_and_four_processes_run_each_key_once").await else {
        return;
    };
    race::each_key_runs_once(database.url(), 2).await;
    race::each_key_runs_once(database.url(), 4).await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_killed_process_come_free_within_a_lease_and_run_once_more() {
    let Some(database) = Database::of("keys_of_a_killed_process_come_free").await else {
        return;
    };
    crash::keys_of_a_killed_instance_come_free_within_a_lease(database.url()).await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_another_process_is_waited_for() {
    let Some(database) = Database::of("the_answer_of_another_process_is_waited_for").await else {
        return;
    };
    waiting::the_answer_of_another_process_is_waited_for(database.url()).await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_killed_process_is_run_by_one_waiter() {
    let Some(database) = Database::of("the_key_of_a_killed_process_is_run_by_one_waiter").await
    else {
        return;
    };
    waiting::the_key_of_a_killed_process_is_run_by_one_waiter(database.url()).await;
    database.remove().await;
}
