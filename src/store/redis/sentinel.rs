//! The master that the sentinels name.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ErrorKind, RedisError, RedisResult,
    ServerErrorKind, Value,
};

use super::address::{Config, Server};

/// Sentinels, and the name by which they know the master.
///
/// The driver's own client takes the first answer for the truth. A sentinel that is cut off from the
/// others goes on naming the old master, so here the next one is asked until a server is found that
/// says of itself that it is a master.
pub(super) struct Sentinels {
    sentinels: Vec<Server>,
    name: String,
    /// The master but for its address: who logs in, to which database, by TLS or not.
    master: Server,
    /// The sentinel that has helped last is asked first, so that one that is down costs nothing.
    first: AtomicUsize,
}

impl Sentinels {
    /// Takes the URLs of sentinels, and that of the master with its name as the host.
    pub(super) fn at<U: AsRef<str>>(
        urls: impl IntoIterator<Item = U>,
        master: &str,
    ) -> RedisResult<Self> {
        let sentinels = urls.into_iter().map(|url| Server::at(url.as_ref()));
        let sentinels = sentinels.collect::<RedisResult<Vec<_>>>()?;
        if sentinels.is_empty() {
            return Err(no_sentinel());
        }
        let master = Server::at(master)?;
        let name = match master.info.addr() {
            ConnectionAddr::Tcp(name, _) | ConnectionAddr::TcpTls { host: name, .. } => {
                name.clone()
            }
            _ => {
                return Err((
                    ErrorKind::InvalidClientConfig,
                    "the URL of the master must have its name as the host",
                )
                    .into());
            }
        };
        Ok(Self {
            sentinels,
            name,
            master,
            first: AtomicUsize::new(0),
        })
    }

    pub(super) async fn connect(&self, config: &Config<'_>) -> RedisResult<MultiplexedConnection> {
        let first = self.first.load(Ordering::Relaxed);
        let mut failure = None;
        for n in 0..self.sentinels.len() {
            let index = (first + n) % self.sentinels.len();
            match self.connect_by(&self.sentinels[index], config).await {
                Ok(connection) => {
                    self.first.store(index, Ordering::Relaxed);
                    return Ok(connection);
                }
                // What somebody has answered says more than that another can't be reached.
                Err(error) if failure.is_none() || !error.is_io_error() => failure = Some(error),
                Err(_) => {}
            }
        }
        Err(failure.unwrap_or_else(no_sentinel))
    }

    async fn connect_by(
        &self,
        sentinel: &Server,
        config: &Config<'_>,
    ) -> RedisResult<MultiplexedConnection> {
        let (host, port) = self.ask(sentinel).await?;
        let mut server = self.master.clone();
        let addr = match server.info.addr() {
            ConnectionAddr::TcpTls {
                insecure,
                tls_params,
                ..
            } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host, port),
        };
        server.info = server.info.set_addr(addr);
        let connection = server.connect(config).await?;
        must_be_master(connection.clone()).await?;
        Ok(connection)
    }

    /// Asks a sentinel for the address of the master.
    async fn ask(&self, sentinel: &Server) -> RedisResult<(String, u16)> {
        let config = |_| {
            AsyncConnectionConfig::new()
                .set_connection_timeout(Some(TIMEOUT))
                .set_response_timeout(Some(TIMEOUT))
        };
        let mut connection = sentinel.connect(&config).await?;
        let mut command = Cmd::new();
        command.arg("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME");
        let found = command.arg(&self.name).query_async(&mut connection).await;
        let found: Option<(String, u16)> = found?;
        found.ok_or_else(|| {
            RedisError::from((
                ErrorKind::MasterNameNotFoundBySentinel,
                "the sentinel knows no master of this name",
            ))
        })
    }
}

fn no_sentinel() -> RedisError {
    RedisError::from((ErrorKind::EmptySentinelList, "there is no sentinel to ask"))
}

/// Asks a server what it is. One that does not say, for want of a permission, is believed.
async fn must_be_master(mut connection: MultiplexedConnection) -> RedisResult<()> {
    let mut command = Cmd::new();
    let asked = connection.send_packed_command(command.arg("ROLE"));
    let reply = tokio::time::timeout(TIMEOUT, asked).await;
    let reply = reply.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    match reply {
        Value::Array(role) if role.first() != Some(&Value::BulkString(b"master".to_vec())) => {
            Err(RedisError::from((
                ErrorKind::Server(ServerErrorKind::ReadOnly),
                "the server that the sentinel names is not a master",
            )))
        }
        _ => Ok(()),
    }
}

const TIMEOUT: Duration = Duration::from_secs(1);
