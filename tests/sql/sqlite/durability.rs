//! A file whose process is killed at random moments.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use sqlx::Row;
use tokio::task::JoinSet;

use super::file::File;
use crate::cluster_support::api;
use crate::cluster_support::instance::Instance;

/// Kills the process again and again while it writes: every record whose response was seen is there
/// afterwards, and the file is whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_no_record_whose_response_was_seen() {
    const ROUNDS: usize = 20;
    let file = File::new();
    let lease = Duration::from_secs(60);
    let mut seen = Vec::new();
    for round in 0..ROUNDS {
        let instance = Instance::start(&file.url(), lease, false);
        let client = api::client();
        let mut requests = JoinSet::new();
        let answered = Arc::new(AtomicU64::new(0));
        for n in 0..400 {
            let (client, authority) = (client.clone(), instance.authority().to_owned());
            let answered = Arc::clone(&answered);
            requests.spawn(async move {
                let key = format!("{round}-{n}");
                let answer = api::send(&client, &authority, &key).await.ok()?;
                assert_eq!(answer.status, StatusCode::CREATED);
                answered.fetch_add(1, Ordering::SeqCst);
                Some((key, answer.body))
            });
        }
        // A random moment between the first response and the last, and anywhere within a write.
        let random = uuid::Uuid::new_v4().as_u64_pair();
        while answered.load(Ordering::SeqCst) < 1 + random.0 % 100 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        std::thread::sleep(Duration::from_micros(random.1 % 5000));
        let runs = instance.kill();
        assert_eq!(runs.iter().collect::<HashSet<_>>().len(), runs.len());
        seen.extend(requests.join_all().await.into_iter().flatten());
        let check = file.ask("PRAGMA integrity_check").await;
        assert_eq!(check[0].get::<String, _>(0), "ok");
    }
    println!("{} responses were seen in {ROUNDS} rounds", seen.len());
    assert!(!seen.is_empty());
    let instance = Instance::start(&file.url(), lease, false);
    let client = api::client();
    for (key, body) in &seen {
        let answer = api::send(&client, instance.authority(), key).await.unwrap();
        assert!(
            answer.is_replay() && answer.body == body,
            "{key}: {answer:?}"
        );
    }
    assert!(instance.end().is_empty());
}
