//! Clients that ask until they know.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use support::{Answer, PATIENCE, Random, Raw};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout};

use super::figures::{Seen, count};
use super::instance::LEASE;

#[derive(Clone)]
pub(crate) struct Client {
    /// Where the processes are by now.
    pub(crate) addresses: Arc<Mutex<Vec<SocketAddr>>>,
    pub(crate) seed: u64,
    /// From here on, nothing keeps anybody from an answer, and who has none soon will never have one.
    pub(crate) end: Instant,
    pub(crate) seen: Arc<Seen>,
}

impl Client {
    /// Does an operation, at times as two clients at once.
    pub(crate) async fn operate(&self, operation: u64) {
        let random = |twin| Random::new(self.seed, operation * 2 + twin);
        if random(0).is_one_in(4) {
            count(&self.seen.twins);
            tokio::join!(
                self.ask_until_answered(operation, random(0)),
                self.ask_until_answered(operation, random(1)),
            );
        } else {
            self.ask_until_answered(operation, random(0)).await;
        }
    }

    async fn ask_until_answered(&self, operation: u64, mut random: Random) {
        let start = Instant::now();
        // Some ask again when they have their answer.
        let mut left = if random.is_one_in(4) { 2 } else { 1 };
        while left > 0 {
            if Instant::now() > self.end + 2 * PATIENCE {
                let took = start.elapsed();
                let rule = format!("operation {operation} got no answer in {took:?}");
                return self.seen.violated(rule);
            }
            let address = {
                let addresses = self.addresses.lock().unwrap();
                addresses[random.within(0..addresses.len() as u64) as usize]
            };
            // Some leave sooner than anything can be done.
            let longest = if random.is_one_in(4) {
                LEASE / 20
            } else {
                LEASE
            };
            let patience = longest.mul_f64(random.within(1..100) as f64 / 100.0);
            count(&self.seen.tries);
            match timeout(patience, ask(address, "transfers", operation, "")).await {
                Ok(Ok(answer)) if self.take(operation, &answer) => {
                    self.seen.took(start.elapsed());
                    left -= 1;
                    continue;
                }
                Ok(Ok(_)) => {}
                Ok(Err(Broken::Refused)) => count(&self.seen.refused),
                Ok(Err(Broken::Broke)) => count(&self.seen.broken),
                Err(_) => count(&self.seen.left),
            }
            sleep(Duration::from_millis(random.within(2..100))).await;
        }
    }

    /// Looks at an answer, and returns whether it is the last word.
    fn take(&self, operation: u64, answer: &Answer<Bytes>) -> bool {
        let replayed = if answer.is_replay() { " again" } else { "" };
        let outcome = answer.headers.get("x-outcome");
        let outcome = outcome.map_or("", |outcome| outcome.to_str().unwrap());
        let status = answer.status.as_u16();
        self.seen.answered(format!("{status} {outcome}{replayed}"));
        match status {
            201 => {
                match entry(operation, answer) {
                    Some(entry) => self.seen.successes.lock().unwrap().push((operation, entry)),
                    None => {
                        let rule = format!("operation {operation} got a body not its own");
                        self.seen.violated(rule);
                    }
                }
                true
            }
            409 | 500 | 502 | 503 => false,
            // What a handler has said after its commit must not be heard.
            _ => {
                let body = String::from_utf8_lossy(&answer.body);
                let rule = format!("operation {operation} got {status}: {body}");
                self.seen.violated(rule);
                true
            }
        }
    }
}

/// Returns which entry an operation is, as its answer says.
pub(crate) fn entry(operation: u64, answer: &Answer<Bytes>) -> Option<i64> {
    let body = std::str::from_utf8(&answer.body).ok()?;
    let entry = body.strip_prefix(&format!("operation {operation} is entry "))?;
    entry.parse().ok()
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Broken {
    Refused,
    Broke,
}

/// Asks a process for an operation by one of its routes, with this line in the head.
pub(crate) async fn ask(
    address: SocketAddr,
    route: &str,
    operation: u64,
    line: &str,
) -> Result<Answer<Bytes>, Broken> {
    let mut connection = Raw::open(address).await.map_err(|_| Broken::Refused)?;
    let lines = ["content-length: 0", line];
    let lines = if line.is_empty() { &lines[..1] } else { &lines };
    let path = format!("/{route}/{operation}");
    let head = Raw::head(&path, "secret", &format!("operation-{operation}"), lines);
    let sent = connection.0.write_all(&head).await;
    sent.map_err(|_| Broken::Broke)?;
    loop {
        if let Some(answer) = connection.take_answer() {
            return Ok(answer);
        }
        connection.receive().await.map_err(|_| Broken::Broke)?;
    }
}
