//! A server whose clock is set while requests are under way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};
use tower_idempotency::store::{Begin, DynStore, Ownership, Record, RecordKey, Store};
use tower_idempotency::{IdempotencyLayer, Outcome};

use super::api;
use crate::answer::Answer;
use crate::clock::Clock;
use crate::entry::{MINUTE, claim, key, must_start, record};

/// Sets the clock of a store's server 30 minutes ahead and then an hour back, while up to 200 keys a
/// second are sent, each of them also again while its handler runs and when it has answered. Returns whether
/// a record that had ended in between is replayed again.
///
/// - A claim and a record that have less left than the first step end at once, and others do not.
/// - What runs then can be claimed by a retry. If it is not, its response is kept all the same.
/// - After the second step, the claim of a process that has died ends that much later.
/// - Nothing that was replayed once is ever replayed in another form, and no request fails.
pub async fn are_as_documented(store: DynStore, clock: &Clock) -> bool {
    let half_an_hour = 30 * MINUTE;
    let load = Load::start(store.clone());
    let [retried, alone, day, short, ended, dead] = [1, 2, 3, 4, 5, 6].map(key);
    let (one, other) = (claim(), claim());
    let (first, second) = (record(b"1"), record(b"2"));
    for key in [&retried, &alone] {
        must_start(store.begin(key, &one, MINUTE).await);
    }
    for (key, ttl) in [
        (&day, 24 * 60 * MINUTE),
        (&short, 10 * MINUTE),
        (&ended, 10 * MINUTE),
    ] {
        must_start(store.begin(key, &one, MINUTE).await);
        let held = store.complete(key, one.owner(), &first, ttl).await;
        assert_eq!(held.unwrap(), Ownership::Held);
    }
    sleep(SOME_TIME).await;

    let forward = Instant::now();
    clock.set_ahead(half_an_hour);
    let is_forward = Instant::now();
    // A retry of what runs: it runs, too, and the first response is not kept.
    must_start(store.begin(&retried, &other, MINUTE).await);
    let renewed = store.renew(&retried, one.owner(), MINUTE).await;
    assert_eq!(renewed.unwrap(), Ownership::Lost);
    let late = store.complete(&retried, one.owner(), &first, MINUTE);
    assert_eq!(late.await.unwrap(), Ownership::Lost);
    let held = store.complete(&retried, other.owner(), &second, MINUTE);
    assert_eq!(held.await.unwrap(), Ownership::Held);
    // No retry came: the response is kept late.
    let renewed = store.renew(&alone, one.owner(), MINUTE).await;
    assert_eq!(renewed.unwrap(), Ownership::Lost);
    let late = store.complete(&alone, one.owner(), &first, MINUTE);
    assert_eq!(late.await.unwrap(), Ownership::Held);
    let kept = [(&day, &first), (&retried, &second), (&alone, &first)];
    replays(&store, &kept).await;
    must_start(store.begin(&ended, &other, MINUTE).await);
    // The process of this one dies.
    must_start(store.begin(&dead, &one, MINUTE).await);
    sleep(SOME_TIME).await;

    clock.set_behind(half_an_hour);
    let back = Instant::now();
    sleep(SOME_TIME).await;
    replays(&store, &kept).await;
    let begun = store.begin(&dead, &other, MINUTE).await;
    assert!(matches!(begun, Ok(Begin::InProgress(_))), "{begun:?}");
    let found = store.begin(&short, &other, MINUTE).await;
    let is_back = match found.unwrap() {
        Begin::Completed(found) => {
            assert_eq!(found, first);
            true
        }
        Begin::Started => false,
        begun => panic!("{begun:?}"),
    };
    // A process that lives renews its claim, which then ends as ever.
    let renewed = store.renew(&ended, other.owner(), MINUTE).await;
    assert_eq!(renewed.unwrap(), Ownership::Held);
    load.end(forward, is_forward, back).await;

    // The hour passes, less what these tests may take. Then the lease does.
    clock.set_ahead(half_an_hour - MINUTE);
    let begun = store.begin(&dead, &other, MINUTE).await;
    assert!(matches!(begun, Ok(Begin::InProgress(_))), "{begun:?}");
    must_start(store.begin(&ended, &one, MINUTE).await);
    clock.set_ahead(half_an_hour + 2 * MINUTE);
    must_start(store.begin(&dead, &other, MINUTE).await);
    is_back
}

async fn replays(store: &DynStore, kept: &[(&RecordKey, &Record)]) {
    for (key, record) in kept {
        let found = store.begin(key, &claim(), MINUTE).await.unwrap();
        assert!(
            matches!(&found, Begin::Completed(found) if found == *record),
            "{found:?}"
        );
    }
}

/// Requests that go on.
struct Load {
    router: Router,
    runs: Runs,
    stop: Arc<AtomicBool>,
    requests: tokio::task::JoinHandle<Vec<Request>>,
}

/// When the handler has begun to run for each key.
type Runs = Arc<Mutex<HashMap<String, Vec<Instant>>>>;

/// What came of a key.
struct Request {
    key: String,
    sent: Instant,
    sent_again: Instant,
    body: Bytes,
    longest: Duration,
}

impl Load {
    fn start(store: DynStore) -> Self {
        // Patient, so that a busy machine does not count as a store that fails.
        let layer = IdempotencyLayer::new(store).store_timeout(Duration::from_secs(20));
        let runs = Runs::default();
        let router = api::router(layer, {
            let runs = Arc::clone(&runs);
            move |key: String| {
                let run = {
                    let mut runs = runs.lock().unwrap();
                    let runs = runs.entry(key).or_default();
                    runs.push(Instant::now());
                    runs.len()
                };
                async move {
                    sleep(RUN).await;
                    (StatusCode::CREATED, format!("run {run}"))
                }
            }
        });
        let stop = Arc::new(AtomicBool::new(false));
        let requests = tokio::spawn(send(router.clone(), Arc::clone(&stop)));
        Self {
            router,
            runs,
            stop,
            requests,
        }
    }

    /// Ends the load. What has run twice was running when the clock was set forward, and was sent
    /// again afterwards; what was replayed still is.
    async fn end(self, forward: Instant, is_forward: Instant, back: Instant) {
        self.stop.store(true, Ordering::SeqCst);
        let requests = self.requests.await.unwrap();
        let runs = std::mem::take(&mut *self.runs.lock().unwrap());
        assert_eq!(runs.len(), requests.len());
        let (mut running, mut twice) = (0, 0);
        for request in &requests {
            let runs = &runs[&request.key];
            running += usize::from(runs[0] < forward && is_forward < runs[0] + RUN);
            if let [_, again] = runs[..] {
                twice += 1;
                assert!(request.sent < is_forward && forward < again);
                assert!(request.sent_again < back);
            }
            assert!(runs.len() <= 2);
            let again = api::call(&self.router, &request.key).await;
            assert_eq!(again.outcome, Outcome::Replayed, "{again:?}");
            assert_eq!(again.body, request.body, "{}", request.key);
        }
        let longest = requests.iter().map(|request| request.longest).max();
        println!(
            "the clock is set 30 minutes ahead, then an hour back: {} keys, {running} of them \
             running at the first step, of which {twice} ran twice; no request failed or ran \
             unprotected, and none took longer than {:?} beside its handler",
            requests.len(),
            longest.unwrap_or_default(),
        );
    }
}

/// Sends keys until it is stopped, as many as the machine can serve.
async fn send(router: Router, stop: Arc<AtomicBool>) -> Vec<Request> {
    let (mut under_way, mut done) = (JoinSet::new(), Vec::new());
    let run = api::run_id();
    let mut ticks = interval(Duration::from_millis(5));
    for n in 0.. {
        ticks.tick().await;
        if stop.load(Ordering::SeqCst) {
            break;
        }
        if under_way.len() == UNDER_WAY {
            done.push(under_way.join_next().await.unwrap().unwrap());
        }
        under_way.spawn(one(router.clone(), format!("{run}-{n}")));
    }
    done.extend(under_way.join_all().await);
    done
}

/// Sends a key, again while its handler runs, and again when both have answered.
async fn one(router: Router, key: String) -> Request {
    let sent = Instant::now();
    let first = timed(&router, &key);
    let again = async {
        sleep(RUN / 2).await;
        (Instant::now(), timed(&router, &key).await)
    };
    let (first, (sent_again, again)) = tokio::join!(first, again);
    let last = timed(&router, &key).await;
    let answers = [first, again, last];
    for (answer, _) in &answers {
        let is_right = match answer.outcome {
            Outcome::Kept | Outcome::Replayed => answer.status == StatusCode::CREATED,
            Outcome::InProgress => answer.status == StatusCode::CONFLICT,
            // Another has claimed its key since: its response goes out all the same.
            outcome => {
                outcome.as_str() == "not_kept_lease_lost" && answer.status == StatusCode::CREATED
            }
        };
        assert!(is_right, "{answer:?}");
    }
    assert_eq!(answers[2].0.outcome, Outcome::Replayed);
    let longest = answers.iter().map(|(_, took)| *took).max();
    let [.., (last, _)] = answers;
    Request {
        key,
        sent,
        sent_again,
        body: last.body,
        longest: longest.unwrap_or_default(),
    }
}

/// Sends a key, and measures what it takes beside its handler.
async fn timed(router: &Router, key: &str) -> (Answer<Bytes>, Duration) {
    let start = Instant::now();
    let answer = api::call(router, key).await;
    let ran = !matches!(answer.outcome, Outcome::InProgress | Outcome::Replayed);
    let handler = if ran { RUN } else { Duration::ZERO };
    (answer, start.elapsed().saturating_sub(handler))
}

/// How many keys are under way at once, at most: more than there are at 200 a second.
const UNDER_WAY: usize = 80;

/// How long a handler runs.
const RUN: Duration = Duration::from_millis(200);

/// How long the load goes on between two steps.
const SOME_TIME: Duration = Duration::from_secs(1);
