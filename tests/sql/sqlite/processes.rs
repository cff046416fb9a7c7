//! Several processes on one file.

use super::file::File;
use crate::cluster_support::{crash, race, waiting};

#[tokio::test(flavor = "multi_thread")]
async fn two_and_four_processes_run_each_key_once() {
    let file = File::new();
    race::each_key_runs_once(&file.url(), 2).await;
    race::each_key_runs_once(&file.url(), 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_killed_process_come_free_within_a_lease_and_run_once_more() {
    let file = File::new();
    crash::keys_of_a_killed_instance_come_free_within_a_lease(&file.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_another_process_is_waited_for() {
    let file = File::new();
    waiting::the_answer_of_another_process_is_waited_for(&file.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_killed_process_is_run_by_one_waiter() {
    let file = File::new();
    waiting::the_key_of_a_killed_process_is_run_by_one_waiter(&file.url()).await;
}
