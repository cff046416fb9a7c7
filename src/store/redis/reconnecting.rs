//! The store's own connection to the server that takes writes, which nobody waits for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, ProtocolVersion, PushInfo, PushKind, RedisError,
    RedisResult, Value,
};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::address::Address;
use super::connection::{Connection, Reply};
use super::connector::{Connector, LAST_PAUSE};
use super::error::is_misconfigured;

/// A connection that is made anew in the background when it breaks or hangs.
///
/// While it is down, a command fails at once. The driver's `ConnectionManager` is different: it
/// lets commands wait for the attempt to connect, and it never gives up a connection on which
/// nothing comes back any more, as happens when the server's machine loses power.
pub(super) struct Reconnecting(Arc<Shared>);

pub(super) struct Shared {
    address: Address,
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
    connecting: Option<Connecting>,
    /// When the first command since the last reply was left without one.
    silent_since: Option<Instant>,
    /// Why the last attempt to connect failed, if only an operator can help.
    misconfigured: Option<RedisError>,
}

#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    number: u64,
    since: Instant,
}

/// The task that connects.
struct Connecting {
    task: Arc<()>,
    /// When the task ran last: its runtime may not be driven any more.
    seen: Instant,
}

impl Reconnecting {
    /// Takes the server's address, without connecting yet.
    pub(super) fn to(address: Address) -> Self {
        Self(Arc::new(Shared {
            address,
            state: RwLock::default(),
            silent: AtomicBool::new(false),
        }))
    }

    /// Makes a connection, and fails if there is none within some seconds.
    pub(super) async fn connect(&self) -> RedisResult<()> {
        self.0.connect(None).await
    }

    /// Makes the first connection in the background, if there is a runtime.
    pub(super) fn start(&self) {
        self.0.change(|_| Some(Duration::ZERO));
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

    fn ready(&self) -> Reply<'_> {
        Box::pin(async move {
            if self.0.live().is_err() {
                self.0.connect(None).await?;
            }
            Ok(Value::Okay)
        })
    }
}

impl Shared {
    /// Makes a connection, which is for nobody if the task that makes it has been replaced meanwhile.
    pub(super) async fn connect(self: &Arc<Self>, task: Option<&Arc<()>>) -> RedisResult<()> {
        let number = {
            let mut state = self.state();
            state.made += 1;
            state.made
        };
        let connected = self.open(number).await;
        let mut state = self.state();
        if task.is_some_and(|task| !state.is_connecting(task)) {
            return Ok(());
        }
        match connected {
            Ok(connection) => {
                state.silent_since = None;
                state.misconfigured = None;
                state.live = Some(Live {
                    connection,
                    number,
                    since: Instant::now(),
                });
                Ok(())
            }
            Err(error) => {
                state.misconfigured = is_misconfigured(&error).then(|| error.clone());
                Err(error)
            }
        }
    }

    async fn open(self: &Arc<Self>, number: u64) -> RedisResult<MultiplexedConnection> {
        let config = |protocol| {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECTION_TIMEOUT))
                // The layer's `store_timeout` is the limit, and a command that it drops is noticed
                // here.
                .set_response_timeout(None)
                .set_pipeline_buffer_size(PIPELINE);
            if protocol == ProtocolVersion::RESP2 {
                return config;
            }
            let weak = Arc::downgrade(self);
            config.set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    if let Some(shared) = weak.upgrade() {
                        shared.lost(number);
                    }
                }
                Ok::<_, redis::aio::SendError>(())
            })
        };
        self.address.connect(&config).await
    }

    /// Notes that the task which connects is at work, and returns whether it is still wanted.
    pub(super) fn is_connecting(&self, task: &Arc<()>) -> bool {
        self.state().is_connecting(task)
    }

    /// Lets another task connect, as this one has ended.
    pub(super) fn leave_connecting(&self, task: &Arc<()>) {
        let connecting = &mut self.state().connecting;
        let _ = connecting.take_if(|connecting| Arc::ptr_eq(&connecting.task, task));
    }

    fn live(self: &Arc<Self>) -> RedisResult<Live> {
        let state = self.state.read();
        let live = state.unwrap_or_else(PoisonError::into_inner).live.clone();
        if let Some(live) = live {
            return Ok(live);
        }
        let mut found = Err(None);
        self.change(|state| {
            found = state.live.clone().ok_or(state.misconfigured.clone());
            found.is_err().then_some(Duration::ZERO)
        });
        found.map_err(|misconfigured| {
            misconfigured.unwrap_or_else(|| {
                RedisError::from((
                    ErrorKind::Io,
                    "there is no connection to the server at the moment",
                ))
            })
        })
    }

    /// Gives a connection up and makes another.
    fn lost(self: &Arc<Self>, number: u64) {
        self.change(|state| {
            let live = state.live.take_if(|live| live.number == number)?;
            Some(pause_after(&live))
        });
    }

    /// Makes another connection in place of one that is used until then: its server refuses writes,
    /// and may have been told to by a failover.
    fn refused(self: &Arc<Self>, number: u64) {
        self.change(|state| {
            let live = state.live.as_ref().filter(|live| live.number == number)?;
            Some(pause_after(live))
        });
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

    /// Changes the state, and lets a task connect if the change asks for one after a pause.
    ///
    /// Without a runtime, the next command that has one starts the task.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut State) -> Option<Duration>) {
        let mut state = self.state();
        let Some(pause) = change(&mut state) else {
            return;
        };
        if let Some(connecting) = &state.connecting {
            if connecting.seen.elapsed() < NEGLECTED {
                return;
            }
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let task = Arc::new(());
        state.connecting = Some(Connecting {
            task: Arc::clone(&task),
            seen: Instant::now(),
        });
        drop(state);
        // Without the lock: a runtime that shuts down drops the task at once, and that takes it.
        runtime.spawn(Connector::new(self, task).run(pause));
    }

    fn state(&self) -> RwLockWriteGuard<'_, State> {
        // Nothing that holds this lock can leave the state half-changed.
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_connecting(&mut self, task: &Arc<()>) -> bool {
        match &mut self.connecting {
            Some(connecting) if Arc::ptr_eq(&connecting.task, task) => {
                connecting.seen = Instant::now();
                true
            }
            _ => false,
        }
    }
}

/// A server that accepts connections and breaks them is asked again only after a pause.
fn pause_after(live: &Live) -> Duration {
    LAST_PAUSE.saturating_sub(live.since.elapsed())
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
            Err(error) if error.is_unrecoverable_error() => self.shared.lost(self.number),
            Err(error) => {
                self.shared.heard();
                if may_be_of_a_failover(error) {
                    self.shared.refused(self.number);
                }
            }
            Ok(_) => self.shared.heard(),
        }
        std::mem::forget(self);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.silent(self.number);
    }
}

/// Returns whether another server may take the writes by now: this one has become a replica, or has
/// lost its replicas, which may have a new master.
fn may_be_of_a_failover(error: &RedisError) -> bool {
    matches!(error.code(), Some("READONLY" | "NOREPLICAS" | "MASTERDOWN"))
}

const CONNECTION_TIMEOUT: Duration = Duration::from_secs(1);

/// How long nothing may come back before a connection is given up.
const HUNG: Duration = Duration::from_secs(1);

/// How long the task that connects may give no sign of itself before another takes its place.
const NEGLECTED: Duration = Duration::from_secs(1);

/// How many commands may queue before their senders wait.
const PIPELINE: usize = 1024;
