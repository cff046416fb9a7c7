//! Clients that hang up at random moments, and ask again until they have their answer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use support::{Answer, Random, Raw};
use tokio::time::{Instant, sleep, timeout};
use tower_idempotency::{CallerId, IdempotencyKey, RecordKey};

use crate::connection::{Connection, HangUp, Reply};
use crate::plan::{LEASE, Plan};

/// What all clients together have seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) requests: AtomicUsize,
    pub(crate) cut_requests: AtomicUsize,
    pub(crate) cut_waits: AtomicUsize,
    pub(crate) cut_responses: AtomicUsize,
    pub(crate) broken_connections: AtomicUsize,
    pub(crate) conflicts: AtomicUsize,
    pub(crate) unavailable: AtomicUsize,
    pub(crate) replays: AtomicUsize,
    pub(crate) omitted: AtomicUsize,
    pub(crate) refused_connections: AtomicUsize,
    pub(crate) twins: AtomicUsize,
    /// The answers that clients have had: which entry each operation is said to be.
    pub(crate) answers: Mutex<Vec<(u64, usize)>>,
    pub(crate) violations: Mutex<Vec<String>>,
}

impl Seen {
    pub(crate) fn violated(&self, rule: String) {
        self.violations.lock().unwrap().push(rule);
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) seed: u64,
    pub(crate) seen: Arc<Seen>,
}

impl Client {
    /// Does an operation, at times as two clients at once.
    pub(crate) async fn operate(&self, operation: u64) {
        let plan = Plan::new(self.seed, operation);
        let random = |twin| Random::new(!self.seed, operation * 2 + twin);
        if plan.twins {
            count(&self.seen.twins);
            tokio::join!(
                self.ask_until_answered(operation, &plan, random(0)),
                self.ask_until_answered(operation, &plan, random(1)),
            );
        } else {
            self.ask_until_answered(operation, &plan, random(0)).await;
        }
    }

    async fn ask_until_answered(&self, operation: u64, plan: &Plan, mut random: Random) {
        let start = Instant::now();
        let request = write(self.seed, operation, plan.upload);
        // Some ask again when they have their answer.
        let mut left = if random.is_one_in(4) { 2 } else { 1 };
        let mut connection = None;
        while left > 0 {
            if start.elapsed() > PATIENCE {
                let rule = format!("operation {operation} got no answer in {PATIENCE:?}");
                return self.seen.violated(rule);
            }
            let mut open = match connection.take() {
                Some(open) => open,
                None => match Connection::open(self.address).await {
                    Ok(open) => open,
                    Err(error) => {
                        count(&self.seen.refused_connections);
                        let rule = format!("a connection was refused: {error}");
                        self.seen.violated(rule);
                        sleep(Duration::from_millis(10)).await;
                        continue;
                    }
                },
            };
            count(&self.seen.requests);
            let hang_up = hang_up(&mut random, request.len());
            match timeout(PATIENCE, open.ask(&request, hang_up)).await {
                Ok(Reply::Answer(answer)) => {
                    if self.take(operation, plan, &answer) {
                        left -= 1;
                        if left > 0 && random.is_one_in(10) {
                            // What was kept outlives the claim that it was made under.
                            sleep(LEASE * 3 / 2).await;
                        }
                    } else {
                        sleep(Duration::from_millis(random.within(2..40))).await;
                    }
                    connection = Some(open);
                }
                Ok(Reply::HungUp) => {
                    count(match hang_up {
                        HangUp::Sending(_) => &self.seen.cut_requests,
                        HangUp::Receiving(_) => &self.seen.cut_responses,
                        HangUp::Waiting(_) | HangUp::Never => &self.seen.cut_waits,
                    });
                    if random.is_one_in(2) {
                        open.reset_when_dropped();
                    }
                }
                Ok(Reply::Broke) => count(&self.seen.broken_connections),
                Err(_) => self.seen.violated(format!("operation {operation} hangs")),
            }
        }
    }

    /// Looks at an answer, and returns whether it is the last word.
    fn take(&self, operation: u64, plan: &Plan, answer: &Answer<Bytes>) -> bool {
        let seen = &self.seen;
        match answer.status.as_u16() {
            409 => count(&seen.conflicts),
            503 => count(&seen.unavailable),
            201 => {
                let omitted = answer.is_without_body();
                if answer.is_replay() {
                    count(&seen.replays);
                }
                if omitted {
                    count(&seen.omitted);
                }
                let entry = answer.headers["x-entry"].to_str().unwrap().parse().unwrap();
                let expected = match omitted {
                    true if plan.may_be_omitted() => Vec::new(),
                    _ => plan.body.write(operation, entry),
                };
                if answer.body != expected {
                    let length = answer.body.len();
                    seen.violated(format!(
                        "operation {operation}, {plan:?}, got a wrong body of {length} bytes"
                    ));
                }
                seen.answers.lock().unwrap().push((operation, entry));
                return true;
            }
            status => {
                let body = String::from_utf8_lossy(&answer.body);
                seen.violated(format!("operation {operation} got {status}: {body}"));
                return true;
            }
        }
        false
    }
}

fn hang_up(random: &mut Random, length: usize) -> HangUp {
    match random.within(0..10) {
        0 => HangUp::Sending(random.within(0..length as u64) as usize),
        1 => HangUp::Sending(length),
        2 | 3 => HangUp::Waiting(Duration::from_millis(random.within(0..40))),
        4 => HangUp::Receiving(random.within(0..40_000) as usize),
        5 => HangUp::Receiving(random.within(0..200) as usize),
        _ => HangUp::Never,
    }
}

fn write(seed: u64, operation: u64, upload: usize) -> Vec<u8> {
    let key = key(seed, operation);
    let lines = [
        &*format!("x-operation: {operation}"),
        &format!("content-length: {upload}"),
    ];
    let mut request = Raw::head("/operations", CALLER, &key, &lines);
    request.resize(request.len() + upload, b'u');
    request
}

fn key(seed: u64, operation: u64) -> String {
    format!("{seed:x}-{operation}")
}

/// The name under which the store knows an operation.
pub(crate) fn record_key(seed: u64, operation: u64) -> RecordKey {
    let mut credentials = http::HeaderMap::new();
    credentials.insert("x-api-key", CALLER.parse().unwrap());
    let caller = CallerId::from_credentials(&credentials).unwrap();
    let key = IdempotencyKey::new(key(seed, operation)).unwrap();
    RecordKey::new(&caller, &key)
}

pub(crate) fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

const CALLER: &str = "chaos";
/// After this time, whoever has no answer will never have one.
const PATIENCE: Duration = Duration::from_secs(60);
