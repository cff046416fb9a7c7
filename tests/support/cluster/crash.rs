//! An instance killed in mid-handler.

use std::collections::HashMap;
use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::api;
use super::instance::Instance;

/// Kills an instance by `kill -9` while it handles 20 keys: they come free within a lease, and then
/// each runs once more, although two instances ask for it at once.
pub async fn keys_of_a_killed_instance_come_free_within_a_lease(url: &str) {
    const KEYS: usize = 20;
    let lease = Duration::from_secs(3);
    let doomed = Instance::start(url, lease, true);
    let others = [
        Instance::start(url, lease, false),
        Instance::start(url, lease, false),
    ];
    let client = api::client();
    let run = api::run_id();
    for n in 0..KEYS {
        let (client, authority) = (client.clone(), doomed.authority().to_owned());
        let key = format!("{run}-{n}");
        tokio::spawn(async move { api::send(&client, &authority, &key).await });
    }
    doomed.wait_for_runs(KEYS);
    assert_eq!(doomed.kill().len(), KEYS);
    let killed = Instant::now();

    let mut tasks = JoinSet::new();
    for n in 0..KEYS {
        for instance in &others {
            let (client, authority) = (client.clone(), instance.authority().to_owned());
            let key = format!("{run}-{n}");
            tasks.spawn(async move {
                let mut refused = 0;
                loop {
                    let answer = api::send(&client, &authority, &key).await.unwrap();
                    if answer.status != StatusCode::CONFLICT {
                        assert_eq!(answer.status, StatusCode::CREATED);
                        return (killed.elapsed(), refused);
                    }
                    refused += 1;
                    sleep(Duration::from_millis(20)).await;
                }
            });
        }
    }
    let answered = tasks.join_all().await;
    assert!(
        answered.iter().any(|(_, refused)| *refused > 0),
        "no key was still held when its instance was killed"
    );
    let longest = answered.iter().map(|(after, _)| *after).max().unwrap();
    println!(
        "{KEYS} keys of a killed instance were answered after at most {longest:?}; lease {lease:?}"
    );
    // A second for the retry that follows the end of the lease, on a busy machine.
    assert!(longest <= lease + Duration::from_secs(1));

    let mut runs = HashMap::<_, usize>::new();
    for key in others.into_iter().flat_map(Instance::end) {
        *runs.entry(key).or_default() += 1;
    }
    assert_eq!(runs.len(), KEYS);
    assert!(runs.values().all(|runs| *runs == 1), "{runs:?}");
}
