//! What happens to processes and servers while clients ask.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::Random;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::figures::{Seen, count};
use super::instance::{Instance, LEASE, Words};
#[cfg(feature = "postgres")]
use super::server::Server;

/// The processes of the bank, each of which may be killed and started again.
pub(crate) struct Processes {
    url: String,
    words: Words,
    running: Vec<Mutex<Instance>>,
}

impl Processes {
    pub(crate) fn start(url: &str, seed: u64, words: &Words) -> Self {
        let start = |n| Mutex::new(Instance::start(url, seed ^ n, words));
        Self {
            url: url.to_owned(),
            words: words.clone(),
            running: (0..NUMBER).map(start).collect(),
        }
    }

    pub(crate) fn addresses(&self) -> Vec<std::net::SocketAddr> {
        let instances = self.running.iter();
        instances
            .map(|instance| instance.lock().unwrap().address())
            .collect()
    }

    /// Kills a process, and starts another in its place.
    fn replace(&self, n: usize, seed: u64, client: &Client) {
        let mut instance = self.running[n].lock().unwrap();
        instance.kill();
        *instance = Instance::start(&self.url, seed, &self.words);
        client.addresses.lock().unwrap()[n] = instance.address();
    }
}

/// Makes trouble for the processes until the time is over; then all of them run.
pub(crate) async fn of_processes(processes: Arc<Processes>, client: Client) {
    let mut tasks = JoinSet::new();
    for n in 0..processes.running.len() {
        let (processes, client) = (Arc::clone(&processes), client.clone());
        tasks.spawn(async move {
            let mut random = Random::new(!client.seed, n as u64);
            let seen: &Seen = &client.seen;
            loop {
                sleep(Duration::from_millis(random.within(500..8_000))).await;
                if Instant::now() >= client.end {
                    return;
                }
                if random.is_one_in(2) {
                    count(&seen.kills);
                    block_in_place(|| processes.replace(n, random.number(), &client));
                    continue;
                }
                count(&seen.stops);
                block_in_place(|| processes.running[n].lock().unwrap().stop());
                sleep(LEASE.mul_f64(random.within(110..180) as f64 / 100.0)).await;
                if random.is_one_in(3) {
                    count(&seen.killed_while_stopped);
                    block_in_place(|| processes.replace(n, random.number(), &client));
                } else {
                    block_in_place(|| processes.running[n].lock().unwrap().resume());
                }
            }
        });
    }
    tasks.join_all().await;
}

/// Kills the server and starts it again, or lets it stand still, until the time is over.
#[cfg(feature = "postgres")]
pub(crate) async fn of_the_server(server: &mut Server, client: &Client) {
    let mut random = Random::new(!client.seed, u64::MAX);
    loop {
        sleep(Duration::from_millis(random.within(3_000..9_000))).await;
        if Instant::now() >= client.end {
            return;
        }
        if random.is_one_in(3) {
            count(&client.seen.server_stops);
            block_in_place(|| server.stop());
            sleep(LEASE.mul_f64(random.within(1..150) as f64 / 100.0)).await;
            block_in_place(|| server.resume());
            continue;
        }
        count(&client.seen.restarts);
        block_in_place(|| server.kill());
        sleep(Duration::from_millis(random.within(0..1_000))).await;
        block_in_place(|| server.run());
    }
}

const NUMBER: u64 = 4;
