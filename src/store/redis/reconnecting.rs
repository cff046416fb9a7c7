//! The store's own connection to one server, which nobody waits for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, IntoConnectionInfo, ProtocolVersion, PushInfo,
    PushKind, RedisError, RedisResult, ServerErrorKind, Value,
};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::connection::{Connection, Reply};

/// A connection that is made anew in the background when it breaks or hangs.
///
/// While it is down, a command fails at once. The driver's `ConnectionManager` is different: it
/// lets commands wait for the attempt to connect, and it never gives up a connection on which
/// nothing comes back any more, as happens when the server's machine loses power.
pub(super) struct Reconnecting(Arc<Shared>);

struct Shared {
    client: Client,
    state: RwLock<State>,
    /// Whether `silent_since` is set, so that a reply takes the lock only if there is something to
    /// reset.
    silent: AtomicBool,
}

#[derive(Default)]
struct State {
    live: Option<Live>,
    /// Counts the connections, so that the failure of an old one does not end a new one.
    made: u64,
    /// Whether a task is connecting.
    connecting: bool,
    /// When the first command since the last reply was left without one.
    silent_since: Option<Instant>,
}

#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    number: u64,
    since: Instant,
}

impl Reconnecting {
    /// Takes the server's address, without connecting yet.
    pub(super) fn to(url: &str) -> RedisResult<Self> {
        let info = url.into_connection_info()?;
        // With version 3 of the protocol the driver reports a broken connection when it breaks, not
        // when the next command fails.
        let settings = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3);
        let info = info
            .set_redis_settings(settings)
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Ok(Self(Arc::new(Shared {
            client: Client::open(info)?,
            state: RwLock::default(),
            silent: AtomicBool::new(false),
        })))
    }

    /// Makes the first connection.
    pub(super) async fn connect(&self) -> RedisResult<()> {
        let number = self.0.number();
        let connection = self.0.open(number).await?;
        self.0.install(connection, number);
        Ok(())
    }

    /// Makes the first connection in the background, if there is a runtime.
    pub(super) fn start(&self) {
        self.0.connect_later(&mut self.0.state(), Duration::ZERO);
    }
}

impl Connection for Reconnecting {
    fn ask<'a>(&'a self, command: &'a Cmd) -> Reply<'a> {
        Box::pin(async move {
            let mut live = self.0.live()?;
            let waiting = Waiting {
                shared: &self.0,
                number: live.number,
            };
            let reply = live.connection.send_packed_command(command).await;
            let reply = reply.and_then(Value::extract_error);
            waiting.end(&reply);
            reply
        })
    }
}

impl Shared {
    fn live(self: &Arc<Self>) -> RedisResult<Live> {
        let state = self.state.read();
        let live = state.unwrap_or_else(PoisonError::into_inner).live.clone();
        if let Some(live) = live {
            return Ok(live);
        }
        let mut state = self.state();
        if let Some(live) = &state.live {
            return Ok(live.clone());
        }
        self.connect_later(&mut state, Duration::ZERO);
        Err(RedisError::from((
            ErrorKind::Io,
            "there is no connection to the server at the moment",
        )))
    }

    fn number(&self) -> u64 {
        let mut state = self.state();
        state.made += 1;
        state.made
    }

    async fn open(self: &Arc<Self>, number: u64) -> RedisResult<MultiplexedConnection> {
        let weak = Arc::downgrade(self);
        let on_push = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                if let Some(shared) = weak.upgrade() {
                    shared.lost(number);
                }
            }
            Ok::<_, redis::aio::SendError>(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECTION_TIMEOUT))
            // The layer's `store_timeout` is the limit, and a command that it drops is noticed
            // here.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE)
            .set_push_sender(on_push);
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    fn install(&self, connection: MultiplexedConnection, number: u64) {
        let mut state = self.state();
        state.silent_since = None;
        state.live = Some(Live {
            connection,
            number,
            since: Instant::now(),
        });
    }

    /// Gives a connection up and makes another.
    fn lost(self: &Arc<Self>, number: u64) {
        let mut state = self.state();
        let Some(live) = state.live.take_if(|live| live.number == number) else {
            return;
        };
        // A server that accepts connections and breaks them is asked again only after a pause.
        let pause = LAST_PAUSE.saturating_sub(live.since.elapsed());
        self.connect_later(&mut state, pause);
    }

    fn heard(&self) {
        if self.silent.load(Ordering::Relaxed) {
            self.silent.store(false, Ordering::Relaxed);
            self.state().silent_since = None;
        }
    }

    /// Notes that a command got no reply in time, and gives up a connection on which nothing comes.
    fn silent(self: &Arc<Self>, number: u64) {
        let since = *self.state().silent_since.get_or_insert_with(Instant::now);
        self.silent.store(true, Ordering::Relaxed);
        if since.elapsed() >= HUNG {
            self.lost(number);
        }
    }

    fn connect_later(self: &Arc<Self>, state: &mut State, pause: Duration) {
        if state.connecting {
            return;
        }
        // Without a runtime, the next command that has one starts the task.
        if let Ok(runtime) = Handle::try_current() {
            state.connecting = true;
            runtime.spawn(Connector(Arc::downgrade(self)).run(pause));
        }
    }

    fn state(&self) -> RwLockWriteGuard<'_, State> {
        // Nothing that holds this lock can leave the state half-changed.
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that tries to connect until it succeeds or the store is gone.
struct Connector(Weak<Shared>);

impl Connector {
    async fn run(self, mut pause: Duration) {
        loop {
            sleep(pause).await;
            let Some(shared) = self.0.upgrade() else {
                return;
            };
            let number = shared.number();
            if let Ok(connection) = shared.open(number).await {
                shared.install(connection, number);
                return;
            }
            pause = (pause * 2).clamp(FIRST_PAUSE, LAST_PAUSE);
        }
    }
}

impl Drop for Connector {
    /// Lets the next command start another task, even if this one ends with its runtime.
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.state().connecting = false;
        }
    }
}

/// A command that waits for its reply. If it is dropped before, the request has stopped waiting.
struct Waiting<'a> {
    shared: &'a Arc<Shared>,
    number: u64,
}

impl Waiting<'_> {
    fn end(self, reply: &RedisResult<Value>) {
        match reply {
            Err(error) if error.is_timeout() => return,
            Err(error) if is_of_the_connection(error) => self.shared.lost(self.number),
            _ => self.shared.heard(),
        }
        std::mem::forget(self);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.silent(self.number);
    }
}

/// Returns whether a new connection may help.
///
/// It may help if a failover has made a replica of this server: the address may by now be that of
/// the new primary.
fn is_of_the_connection(error: &RedisError) -> bool {
    error.is_unrecoverable_error() || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

const CONNECTION_TIMEOUT: Duration = Duration::from_secs(1);

/// How long nothing may come back before a connection is given up.
const HUNG: Duration = Duration::from_secs(1);

/// The pauses between two attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_millis(100);

/// How many commands may queue before their senders wait.
const PIPELINE: usize = 1024;
