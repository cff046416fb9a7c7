//! Several processes on one database.

use super::database::Database;
use crate::cluster_support::{crash, race};

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
