//! A store that fails in one way under load, for a second.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};
use tower_idempotency::store::{DynStore, StoreErrorKind};
use tower_idempotency::{IdempotencyLayer, Outcome};

use super::api;
use super::counted::Counted;
use super::outage::{ATTEMPTS, STORE_TIMEOUT, load, longest_stall};

/// A way in which a store fails.
pub struct Fault<'a> {
    pub what: &'a str,
    /// What the requests of new keys get.
    pub kinds: &'a [StoreErrorKind],
    /// Whether what is kept and what runs can still be read.
    pub reads: bool,
    /// The time between two requests of new keys, of which the store must be able to take so many.
    pub every: Duration,
}

impl Fault<'_> {
    /// Sends requests before, during and after the fault.
    ///
    /// No request fails or waits longer than `store_timeout` beyond its handler. What was kept is
    /// replayed and what ran is refused while the store reads, and afterwards in any case. What
    /// handlers have answered meanwhile is kept afterwards. Protection is back within a second.
    ///
    /// What depends on time is tried again. Needs a runtime of several threads, since `hurt` and
    /// `heal` may block.
    pub async fn hurts_no_request(&self, store: &DynStore, hurt: impl Fn(), heal: impl Fn()) {
        for attempt in 1.. {
            match self.meets(store.clone(), &hurt, &heal).await {
                Ok(()) => return,
                Err(why) if attempt < ATTEMPTS => println!("{why}; once more"),
                Err(why) => panic!("{why}, in each of {ATTEMPTS} attempts"),
            }
        }
    }

    async fn meets(
        &self,
        store: DynStore,
        hurt: &impl Fn(),
        heal: &impl Fn(),
    ) -> Result<(), String> {
        let what = self.what;
        let layer = IdempotencyLayer::new(store).store_timeout(STORE_TIMEOUT);
        let counted = Counted::default();
        let router = counted.router(layer);
        let stop = Arc::new(AtomicBool::new(false));
        let stall = tokio::spawn(longest_stall(Arc::clone(&stop)));
        let load = tokio::spawn(load(router.clone(), self.every, Arc::clone(&stop)));
        let run = api::run_id();
        let [kept, running, ending] =
            ["kept", "running", "ending"].map(|key| format!("{run}-{key}"));
        let call = async |key: &str| api::call(&router, key).await;
        let kept_answer = call(&kept).await;
        assert_eq!(kept_answer.outcome, Outcome::Kept);
        let runs_on = counted.start(&router, &running).await;
        let ends = counted.start(&router, &ending).await;

        block_in_place(hurt);
        let hurt_at = Instant::now();
        let (mut of_kept, mut of_running) = (Seen::default(), Seen::default());
        let ended = ends.end().await;
        while hurt_at.elapsed() < Duration::from_secs(1) {
            let answer = call(&kept).await;
            let is_same = answer.body == kept_answer.body;
            assert!(is_same || answer.outcome != Outcome::Replayed, "{what}");
            of_kept.add(answer.outcome);
            of_running.add(call(&running).await.outcome);
            sleep(Duration::from_millis(20)).await;
        }
        let healing = Instant::now();
        block_in_place(heal);
        let up = Instant::now();
        // Until then, requests may still run unprotected.
        sleep(Duration::from_secs(1)).await;
        stop.store(true, Ordering::SeqCst);
        let samples = load.await.unwrap();
        let slack = Duration::from_millis(100) + stall.await.unwrap();

        let mut during = Seen::default();
        let mut unprotected_until = hurt_at;
        for sample in &samples {
            assert_eq!(sample.status, StatusCode::CREATED, "{what}");
            if sample.at >= hurt_at && sample.at + sample.waited < healing {
                during.add(sample.outcome);
            }
            if sample.outcome != Outcome::Kept {
                unprotected_until = unprotected_until.max(sample.at);
            }
        }
        let longest = samples.iter().map(|s| s.waited).max().unwrap();
        let back = unprotected_until.saturating_duration_since(up);
        println!(
            "{what}, for {:?}: new keys {during}; retries of a kept request {of_kept}; duplicates of a \
             running one {of_running}; a handler that ended meanwhile: {}; longest wait {longest:?}; \
             protected again {back:?} after it",
            up - hurt_at,
            ended.as_str(),
        );
        let fails = |outcome: &Outcome| match outcome {
            Outcome::StoreFailed(kind) => self.kinds.contains(kind),
            _ => false,
        };
        assert!(during.are(fails), "{what}: {during}");
        if self.reads {
            assert!(
                of_kept.are(|outcome| *outcome == Outcome::Replayed),
                "{what}: {of_kept}"
            );
            let refused = of_running.are(|outcome| *outcome == Outcome::InProgress);
            assert!(refused, "{what}: {of_running}");
        } else {
            assert!(of_kept.are(fails) && of_running.are(fails), "{what}");
        }

        // Nothing was lost: neither what was kept or claimed before, nor what ended meanwhile.
        let after = call(&kept).await;
        assert_eq!(
            (after.outcome, after.body),
            (Outcome::Replayed, kept_answer.body),
            "{what}"
        );
        assert_eq!(call(&running).await.outcome, Outcome::InProgress, "{what}");
        assert_eq!(runs_on.end().await, Outcome::Kept, "{what}");
        assert_eq!(call(&running).await.outcome, Outcome::Replayed, "{what}");
        let settled = Instant::now();
        while call(&ending).await.outcome != Outcome::Replayed {
            assert!(
                settled.elapsed() < LEASE,
                "{what}: what ended meanwhile is not kept"
            );
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(counted.runs(&ending), 1, "{what}");
        for sample in samples
            .iter()
            .filter(|sample| sample.outcome == Outcome::Kept)
        {
            assert_eq!(call(&sample.key).await.outcome, Outcome::Replayed, "{what}");
            assert_eq!(counted.runs(&sample.key), 1, "{what}");
        }

        // The machine's own pauses are not the store's.
        if longest > STORE_TIMEOUT + slack {
            return Err(format!("{what}: a request waited {longest:?}"));
        }
        if back > Duration::from_secs(1) + slack {
            return Err(format!("{what}: protected only {back:?} after it"));
        }
        Ok(())
    }
}

/// How often requests came to what.
#[derive(Default)]
struct Seen(BTreeMap<&'static str, (Option<Outcome>, usize)>);

impl Seen {
    fn add(&mut self, outcome: Outcome) {
        let seen = self.0.entry(outcome.as_str()).or_default();
        *seen = (Some(outcome), seen.1 + 1);
    }

    /// Returns whether there is something, and all of it is so.
    fn are(&self, is_so: impl Fn(&Outcome) -> bool) -> bool {
        let mut seen = self.0.values();
        !self.0.is_empty() && seen.all(|(outcome, _)| outcome.as_ref().is_some_and(&is_so))
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (name, (_, count))) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {count}")?;
        }
        Ok(())
    }
}

/// The lease that the layer has by default.
const LEASE: Duration = Duration::from_secs(60);
