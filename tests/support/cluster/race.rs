//! Every key sent to all instances at once.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::task::JoinSet;

use super::api::{self, HttpClient};
use super::instance::Instance;
use crate::answer::Answer;

/// Sends 2,000 keys, each to all of this many processes at once: each key runs once, and afterwards
/// every process gives the answer of that run.
pub async fn each_key_runs_once(url: &str, processes: usize) {
    const KEYS: usize = 2000;
    let lease = Duration::from_secs(60);
    let instances: Vec<_> = (0..processes)
        .map(|_| Instance::start(url, lease, false))
        .collect();
    let authorities: Vec<_> = instances.iter().map(|i| i.authority().to_owned()).collect();
    let client = api::client();
    let run = api::run_id();

    let mut tasks = JoinSet::new();
    let mut replays = 0;
    let mut refusals = 0;
    for n in 0..KEYS {
        if tasks.len() == 32 {
            count(tasks.join_next().await, &mut replays, &mut refusals);
        }
        tasks.spawn(one_key(
            client.clone(),
            authorities.clone(),
            format!("{run}-{n}"),
            n,
        ));
    }
    while !tasks.is_empty() {
        count(tasks.join_next().await, &mut replays, &mut refusals);
    }

    let mut runs = HashMap::<_, usize>::new();
    for key in instances.into_iter().flat_map(Instance::end) {
        *runs.entry(key).or_default() += 1;
    }
    assert_eq!(runs.len(), KEYS);
    let twice: Vec<_> = runs.iter().filter(|(_, runs)| **runs != 1).collect();
    assert!(twice.is_empty(), "ran more than once: {twice:?}");
    println!(
        "{processes} processes: {KEYS} keys ran once each; of the duplicates sent at the same \
         time, {refusals} were refused with 409 and {replays} replayed"
    );
}

fn count(
    answers: Option<Result<Vec<Answer<Bytes>>, tokio::task::JoinError>>,
    replays: &mut usize,
    refusals: &mut usize,
) {
    for answer in answers.unwrap().unwrap() {
        *replays += usize::from(answer.is_replay());
        *refusals += usize::from(answer.status == StatusCode::CONFLICT);
    }
}

/// Sends one key to all at once, and afterwards to one of them again.
async fn one_key(
    client: HttpClient,
    authorities: Vec<String>,
    key: String,
    n: usize,
) -> Vec<Answer<Bytes>> {
    let mut at_once = JoinSet::new();
    for authority in authorities.clone() {
        let (client, key) = (client.clone(), key.clone());
        at_once.spawn(async move { api::send(&client, &authority, &key).await.unwrap() });
    }
    let answers = at_once.join_all().await;
    let firsts: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::CREATED && !answer.is_replay())
        .collect();
    assert_eq!(firsts.len(), 1, "{key}: {answers:?}");
    for answer in &answers {
        let replay = answer.status == StatusCode::CREATED && answer.body == firsts[0].body;
        assert!(
            replay || answer.status == StatusCode::CONFLICT,
            "{answer:?}"
        );
    }
    let again = api::send(&client, &authorities[n % authorities.len()], &key).await;
    let again = again.unwrap();
    assert!(
        again.is_replay() && again.body == firsts[0].body,
        "{again:?}"
    );
    answers
}
