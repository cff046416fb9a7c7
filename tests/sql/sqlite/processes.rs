//! Several processes on one file.

use super::file::File;
use crate::cluster_support::{crash, race};

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
