//! A server that fails under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};
use tower_idempotency::store::DynStore;
use tower_idempotency::{IdempotencyLayer, Outcome};

use super::api;
use crate::daemon::Daemon;

/// What a request met.
pub(super) struct Sample {
    pub(super) key: String,
    pub(super) at: Instant,
    /// What the request took; its handler takes no time.
    pub(super) waited: Duration,
    pub(super) status: StatusCode,
    pub(super) outcome: Outcome,
}

/// A time without the server.
struct Outage {
    what: &'static str,
    from: Instant,
    up: Instant,
    /// How long the server took to come back.
    took: Duration,
}

impl Outage {
    /// An outage that ends now.
    fn new(what: &'static str, from: Instant, returning: Instant) -> Self {
        let up = Instant::now();
        let took = up - returning;
        Self {
            what,
            from,
            up,
            took,
        }
    }
}

pub(super) const STORE_TIMEOUT: Duration = Duration::from_millis(500);

/// Sends 200 requests a second while the server is killed for two seconds, stopped for three, and
/// restarted: no request fails, none waits longer than `store_timeout` beyond its handler, and
/// protection is back within a second of the server.
///
/// What depends on time is tried again: a machine that is busy with something else breaks its bounds
/// now and then, and a store that does breaks them each time.
///
/// Needs a runtime of several threads, since the server's calls block.
pub async fn hurts_no_request(store: DynStore, server: &mut Daemon) {
    for attempt in 1.. {
        match breaks(store.clone(), server).await {
            Ok(()) => return,
            Err(why) if attempt < ATTEMPTS => println!("{why}; once more"),
            Err(why) => panic!("{why}, in each of {ATTEMPTS} attempts"),
        }
    }
}

pub(super) const ATTEMPTS: usize = 4;

/// 200 requests a second.
pub const EVERY: Duration = Duration::from_millis(5);

/// Breaks the server in all ways, and says which bound of time was not kept.
async fn breaks(store: DynStore, server: &mut Daemon) -> Result<(), String> {
    let layer = IdempotencyLayer::new(store).store_timeout(STORE_TIMEOUT);
    let handled = Arc::new(AtomicU64::new(0));
    let router = api::router(layer, {
        let handled = Arc::clone(&handled);
        move |_| {
            handled.fetch_add(1, Ordering::SeqCst);
            async { (StatusCode::CREATED, "{}") }
        }
    });
    let stop = Arc::new(AtomicBool::new(false));
    let stall = tokio::spawn(longest_stall(Arc::clone(&stop)));
    let load = tokio::spawn(load(router, EVERY, Arc::clone(&stop)));

    let second = Duration::from_secs(1);
    let mut back = Vec::new();
    sleep(second).await;
    let killed = Instant::now();
    tokio::task::block_in_place(|| server.kill());
    sleep(2 * second).await;
    let starting = Instant::now();
    tokio::task::block_in_place(|| server.run());
    back.push(Outage::new("kill -9", killed, starting));
    sleep(2 * second).await;
    let stopped = Instant::now();
    tokio::task::block_in_place(|| server.stop());
    sleep(3 * second).await;
    let resuming = Instant::now();
    tokio::task::block_in_place(|| server.resume());
    back.push(Outage::new("SIGSTOP", stopped, resuming));
    sleep(2 * second).await;
    let restarted = Instant::now();
    tokio::task::block_in_place(|| {
        server.kill();
        server.run();
    });
    back.push(Outage::new("restart", restarted, restarted));
    sleep(2 * second).await;
    let end = Instant::now();

    stop.store(true, Ordering::SeqCst);
    let samples = load.await.unwrap();
    let stall = stall.await.unwrap();
    println!(
        "{} requests, {} handled, longest stall of the machine {stall:?}",
        samples.len(),
        handled.load(Ordering::SeqCst)
    );
    assert_eq!(samples.len() as u64, handled.load(Ordering::SeqCst));
    let ends = back.iter().skip(1).map(|outage| outage.from).chain([end]);
    let outages = back.iter().zip(ends);
    let reports = outages.map(|(outage, until)| report(&samples, outage, until, stall));
    // All of them are printed, whichever fails.
    reports.collect::<Vec<_>>().into_iter().collect()
}

/// Prints what an outage was like, and says which bound of time was not kept.
fn report(
    samples: &[Sample],
    outage: &Outage,
    until: Instant,
    stall: Duration,
) -> Result<(), String> {
    let Outage {
        what,
        from,
        up,
        took,
    } = *outage;
    // One that was answered after the next failure began has met that one.
    let of = |sample: &&Sample| (from..until).contains(&(sample.at + sample.waited));
    let mut waits: Vec<_> = samples.iter().filter(of).map(|s| s.waited).collect();
    waits.sort();
    let failed = samples
        .iter()
        .filter(of)
        .filter(|s| s.status != 201)
        .count();
    let unprotected = |sample: &&Sample| sample.outcome != Outcome::Kept;
    let count = samples.iter().filter(of).filter(unprotected).count();
    let last = samples.iter().filter(of).rfind(unprotected);
    let protected = last.map_or(Duration::ZERO, |s| s.at.saturating_duration_since(up));
    let longest = waits[waits.len() - 1];
    println!(
        "{what}: down for {:?}; {} requests, {failed} failed, {count} unprotected; waited for the \
         store: median {:?}, longest {longest:?}; protected again {protected:?} after the server",
        up - from,
        waits.len(),
        waits[waits.len() / 2],
    );
    assert_eq!(failed, 0);
    assert!(count > 0, "the server was not missed");
    // The machine's own pauses are not the store's, and where a server is slow to come back, it is slow
    // to take connections, too.
    let slack = Duration::from_millis(100) + stall;
    if longest > STORE_TIMEOUT + slack {
        return Err(format!("{what}: a request waited {longest:?}"));
    }
    if protected > Duration::from_secs(1) + slack + took {
        return Err(format!(
            "{what}: protected only {protected:?} after the server"
        ));
    }
    Ok(())
}

/// Sends a request so often, each under a key of its own, until it is stopped.
pub(super) async fn load(
    router: axum::Router,
    every: Duration,
    stop: Arc<AtomicBool>,
) -> Vec<Sample> {
    let mut requests = JoinSet::new();
    let run = api::run_id();
    let mut ticks = interval(every);
    while !stop.load(Ordering::SeqCst) {
        ticks.tick().await;
        let router = router.clone();
        let key = format!("{run}-{}", requests.len());
        requests.spawn(async move {
            let at = Instant::now();
            let answer = api::call(&router, &key).await;
            Sample {
                waited: at.elapsed(),
                status: answer.status,
                outcome: answer.outcome,
                key,
                at,
            }
        });
    }
    let mut samples = requests.join_all().await;
    samples.sort_by_key(|sample| sample.at);
    samples
}

/// Measures by how much a short sleep is late at most: what the machine holds everybody up.
pub(super) async fn longest_stall(stop: Arc<AtomicBool>) -> Duration {
    let mut longest = Duration::ZERO;
    let nap = Duration::from_millis(5);
    while !stop.load(Ordering::SeqCst) {
        let start = Instant::now();
        sleep(nap).await;
        longest = longest.max(start.elapsed().saturating_sub(nap));
    }
    longest
}
