//! Plays one history, and lets it come to its end.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use tower::{Layer, Service};
use tower_idempotency::{Detached, IdempotencyLayer, Outcome};

use crate::action::{Action, Time};
use crate::client::{Client, Stack, record_key};
use crate::handler::Handler;
use crate::script::{
    Answer, BodyEnd, BodyScript, Ending, LEASE, MAX_RESPONSE_BYTES, Nap, STORE_TIMEOUT, Script,
    Sizing, TTL, UploadKind,
};
use crate::store::FaultyStore;
use crate::world::{Call, Tally, World};

/// Plays a history on a runtime of its own, whose clock moves only when the history says so.
pub(crate) fn play(actions: &[Action]) -> Result<Tally, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut player = Player::new();
        for action in actions {
            player.play(action).await;
            player.verdict()?;
        }
        player.end().await
    })
}

struct Player {
    world: Arc<World>,
    store: Arc<FaultyStore>,
    stack: Stack,
    detached: Detached,
    clients: Vec<Client>,
    waker: Arc<Mutex<Waker>>,
}

impl Player {
    fn new() -> Self {
        let world = Arc::<World>::default();
        let store = Arc::new(FaultyStore::new(Arc::clone(&world)));
        let layer = IdempotencyLayer::new(Arc::clone(&store))
            .lease(LEASE)
            .ttl(TTL)
            .store_timeout(STORE_TIMEOUT)
            .max_response_bytes(MAX_RESPONSE_BYTES);
        Self {
            detached: layer.detached(),
            stack: layer.layer(Handler::new(Arc::clone(&world))),
            world,
            store,
            clients: Vec::new(),
            waker: Arc::new(Mutex::new(Waker::noop().clone())),
        }
    }

    fn verdict(&self) -> Result<(), String> {
        self.world.violation().map_or(Ok(()), Err)
    }

    async fn play(&mut self, action: &Action) {
        match action {
            Action::Start {
                key,
                target,
                upload,
                script,
            } => self.start(*key, *target, *upload, script.clone()).await,
            Action::Poll(n) => self.with(*n, Client::is_calling, Client::poll),
            Action::Read(n) => self.with(*n, Client::is_reading, |client| {
                client.read();
            }),
            Action::Leave(n) => {
                let is_there = |client: &Client| client.is_calling() || client.is_reading();
                self.with(*n, is_there, Client::leave);
            }
            Action::Yield => tokio::task::yield_now().await,
            Action::Wait(time) => {
                let time = match time {
                    Time::Millis(millis) => Duration::from_millis((*millis).into()),
                    Time::Third => LEASE / 3,
                    Time::Lease => LEASE,
                    Time::Ttl => TTL,
                };
                self.wait(time).await;
            }
            Action::Freeze => {
                self.world.froze();
                tokio::time::advance(LEASE + Duration::from_secs(1)).await;
            }
            Action::Fail { step, fault, times } => self.world.inject(*step, *fault, *times),
            Action::Forget => self.store.forget(),
        }
    }

    async fn start(&mut self, key: u8, target: u8, upload: UploadKind, script: Script) {
        let number = self.clients.len();
        let call = Call { script, upload };
        let request = Client::request(number, key, target, call);
        let ready = poll_fn(|context| self.stack.poll_ready(context)).await;
        if ready.is_err() {
            self.world.violated("the handler is never unready".into());
        }
        let world = Arc::clone(&self.world);
        let calling = self.stack.call(request);
        let client = Client::new(number, target, world, &self.waker, calling);
        self.clients.push(client);
    }

    /// Does something with the n-th of those clients that it can be done with.
    fn with(&mut self, n: u8, can: impl Fn(&Client) -> bool, act: impl Fn(&mut Client)) {
        let clients = self.clients.iter_mut().filter(|client| can(client));
        let mut clients: Vec<_> = clients.collect();
        if !clients.is_empty() {
            let n = usize::from(n) % clients.len();
            act(clients[n]);
        }
    }

    /// Lets time pass. Every client that is woken meanwhile is polled at once, as a server does.
    async fn wait(&mut self, time: Duration) {
        let mut sleep = pin!(tokio::time::sleep(time));
        poll_fn(|context| {
            self.waker.lock().unwrap().clone_from(context.waker());
            for client in &mut self.clients {
                if client.take_wake() {
                    client.poll();
                    // Tasks in the background also get their turn before the clock moves.
                    context.waker().wake_by_ref();
                }
            }
            sleep.as_mut().poll(context)
        })
        .await;
    }

    /// Lets everything come to its end, and checks what must be true then.
    async fn end(mut self) -> Result<Tally, String> {
        self.world.mend();
        self.finish().await?;
        self.world.check_the_end();
        self.verdict()?;

        // Every key can be used again: at once, or after a lease where a claim was left to itself.
        for stuck in [false, true] {
            if stuck {
                self.wait(LEASE + Duration::from_secs(1)).await;
            }
            for key in 0..2 {
                let name = Client::request(0, key, 0, probe());
                if self.world.may_be_stuck(record_key(name.headers())) == stuck {
                    let Call { script, upload } = probe();
                    self.start(key, 0, upload, script).await;
                    self.finish().await?;
                    let last = self.clients.last().and_then(|client| client.outcome);
                    if matches!(last, None | Some(Outcome::InProgress)) {
                        return Err(format!("key {key} is stuck"));
                    }
                }
            }
        }

        self.wait(TTL + Duration::from_secs(2)).await;
        let store = self.store.inner();
        if (store.len(), store.bytes()) != (0, 0) {
            return Err(format!("after the ttl there is still {store:?}"));
        }
        self.verdict()?;
        let mut tally = Tally::new();
        self.world.tally(&mut tally);
        for outcome in self.clients.iter().filter_map(|client| client.outcome) {
            *tally.entry(outcome.as_str()).or_default() += 1;
        }
        Ok(tally)
    }

    /// Lets every client have its answer, and the background come to rest.
    async fn finish(&mut self) -> Result<(), String> {
        let mut seconds = 0;
        while self
            .clients
            .iter()
            .any(|c| c.is_calling() || c.is_reading())
        {
            for client in &mut self.clients {
                while client.read() {}
            }
            self.wait(Duration::from_secs(1)).await;
            self.verdict()?;
            seconds += 1;
            if seconds > 60 {
                return Err("a client gets no answer".to_owned());
            }
        }
        for _ in 0..60 {
            if self.detached.count() == 0 {
                break;
            }
            self.wait(Duration::from_secs(1)).await;
        }
        match self.detached.count() {
            0 => self.verdict(),
            count => Err(format!("{count} pieces of detached work do not end")),
        }
    }
}

/// A request that finds out whether its key is free.
fn probe() -> Call {
    let body = BodyScript {
        sizing: Sizing::Exact,
        frames: vec![4],
        nap: Nap::None,
        end: BodyEnd::Whole,
    };
    let answer = Answer {
        status: 200,
        do_not_keep: false,
        binary: false,
        body,
    };
    let script = Script {
        reads_upload: false,
        yields: 0,
        nap: Nap::None,
        ending: Ending::Answer(answer),
    };
    Call {
        script,
        upload: UploadKind::Empty,
    }
}
