//! A machine whose clock is set while the store is in use.

use std::process::Command;

use tower_idempotency::SqliteStore;
use tower_idempotency::store::DynStore;

use super::file::File;
use crate::cluster_support::clock::Clock;
use crate::cluster_support::clock_steps;

/// The store's clock is its process's, so that is a process of its own.
#[test]
fn a_step_of_the_machines_clock_ends_what_has_less_left_and_prolongs_all_by_no_more() {
    let file = File::new();
    let path = file.path();
    let test = "a_step_of_the_machines_clock_ends_what_has_less_left";
    let Some(clock) = Clock::new(test, path.parent().unwrap()) else {
        return;
    };
    let this = std::env::current_exe().unwrap();
    let this = this.to_str().unwrap();
    let command = [this, "sqlite::clock::child", "--exact", "--nocapture"].map(str::to_owned);
    let command = clock.of(&command);
    let mut child = Command::new(&command[0]);
    let run = child.args(&command[1..]).env(PATH, path).output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    print!("{said}");
    let failed = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains(DONE), "{failed}");
}

/// What the test above runs in a process of its own; by itself, nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn child() {
    let Some(path) = std::env::var_os(PATH) else {
        return;
    };
    let clock = Clock::of_this_process();
    let store = SqliteStore::open(path).await.unwrap();
    store.migrate().await.unwrap();
    println!("\nSQLite:");
    let is_back = clock_steps::are_as_documented(DynStore::new(store.clone()), &clock).await;
    // Nobody had removed it, and its end was to come again.
    assert!(is_back, "the record that had ended");
    store.check().await.unwrap();
    println!("{DONE}");
}

const PATH: &str = "TEST_CLOCK_PATH";
const DONE: &str = "each step was as documented";
