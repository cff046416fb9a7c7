//! A machine whose clock is set while the store is in use.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use tower_idempotency::SqliteStore;
use tower_idempotency::store::DynStore;

use super::file::File;
use super::load::EVERY;
use crate::cluster_support::clock::Clock;
use crate::cluster_support::steps;

/// The store's clock is its process's, so that is a process of its own, which asks for each step.
#[test]
fn a_step_of_the_machines_clock_ends_what_has_less_left_and_prolongs_all_by_no_more() {
    let file = File::new();
    let folder = file.path();
    let test = "a_step_of_the_machines_clock_ends_what_has_less_left";
    let Some(clock) = Clock::new(test, folder.parent().unwrap()) else {
        return;
    };
    let this = std::env::current_exe().unwrap();
    let child = ["sqlite::clock::child", "--exact", "--nocapture"].map(str::to_owned);
    let command = [&[this.to_str().unwrap().to_owned()], &child[..]].concat();
    let command = clock.of(&command);
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .env(PATH, file.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = child.stdin.take().unwrap();
    let mut steps = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some(ahead) = line.strip_prefix(SET) else {
            println!("{line}");
            continue;
        };
        let ahead: i64 = ahead.parse().unwrap();
        let by = Duration::from_secs(ahead.unsigned_abs());
        if ahead < 0 {
            clock.set_behind(by);
        } else {
            clock.set_ahead(by);
        }
        steps += 1;
        answers.write_all(b"set\n").unwrap();
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(steps, 4);
}

/// What the test above runs in a process of its own; by itself, nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn child() {
    let Some(path) = std::env::var_os(PATH) else {
        return;
    };
    let store = SqliteStore::open(path).await.unwrap();
    store.migrate().await.unwrap();
    let set = async |ahead: i64| {
        // On a line of its own, since the test runner may have begun one.
        println!("\n{SET}{ahead}");
        let answered = std::io::stdin().read_line(&mut String::new());
        assert!(answered.unwrap() > 0);
    };
    steps::of_a_clock(DynStore::new(store), EVERY, set).await;
}

const PATH: &str = "TEST_CLOCK_PATH";
const SET: &str = "set the clock ahead by ";
