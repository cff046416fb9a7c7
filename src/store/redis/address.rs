//! Where the server is that takes writes, and how it is spoken to.

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    RedisError, RedisResult, parse_redis_url,
};

use super::sentinel::Sentinels;

/// A server by its URL, or the one that the sentinels call the master.
pub(super) enum Address {
    Server(Server),
    Sentinels(Sentinels),
}

impl Address {
    /// Connects once. `config` is made for the protocol that the server turns out to speak.
    pub(super) async fn connect(&self, config: &Config<'_>) -> RedisResult<MultiplexedConnection> {
        match self {
            Self::Server(server) => server.connect(config).await,
            Self::Sentinels(sentinels) => sentinels.connect(config).await,
        }
    }
}

/// Makes the driver's settings for a connection of a protocol.
pub(super) type Config<'a> = dyn Fn(ProtocolVersion) -> AsyncConnectionConfig + Send + Sync + 'a;

/// A server by its URL.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) info: ConnectionInfo,
    /// What the URL says, or nothing: then the newer one if the server knows it.
    protocol: Option<ProtocolVersion>,
}

impl Server {
    pub(super) fn at(url: &str) -> RedisResult<Self> {
        let parsed = parse_redis_url(url).ok_or((
            ErrorKind::InvalidClientConfig,
            "this is not the URL of a Redis server",
        ))?;
        let is_named = parsed.query_pairs().any(|(name, _)| name == "protocol");
        let info = parsed.into_connection_info()?;
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let protocol = is_named.then(|| info.redis_settings().protocol());
        // An address that can't be used at all is reported now.
        Client::open(info.clone())?;
        Ok(Self { info, protocol })
    }

    pub(super) async fn connect(&self, config: &Config<'_>) -> RedisResult<MultiplexedConnection> {
        if let Some(protocol) = self.protocol {
            return self.speak(protocol, config).await;
        }
        // With version 3 the driver reports a broken connection when it breaks, not when the next
        // command fails.
        let refused = match self.speak(ProtocolVersion::RESP3, config).await {
            Err(error) if may_speak_version_2(&error) => error,
            result => return result,
        };
        match self.speak(ProtocolVersion::RESP2, config).await {
            // The driver gives this kind to whatever the server answers to AUTH, be it that it has
            // too many clients. The first answer says what it is.
            Err(error)
                if error.kind() == ErrorKind::AuthenticationFailed
                    && refused.kind() != ErrorKind::RESP3NotSupported =>
            {
                Err(refused)
            }
            result => result,
        }
    }

    async fn speak(
        &self,
        protocol: ProtocolVersion,
        config: &Config<'_>,
    ) -> RedisResult<MultiplexedConnection> {
        let settings = self.info.redis_settings().clone().set_protocol(protocol);
        Client::open(self.info.clone().set_redis_settings(settings))?
            .get_multiplexed_async_connection_with_config(&config(protocol))
            .await
    }
}

/// Returns whether this may be a server, or a proxy before it, that does not know `HELLO`.
fn may_speak_version_2(error: &RedisError) -> bool {
    match error.code() {
        Some(code) => matches!(code, "ERR" | "NOPROTO"),
        // Some proxies cut the connection at a command that they do not know.
        None => {
            error.kind() == ErrorKind::RESP3NotSupported
                || (error.is_connection_dropped() && !error.is_connection_refusal())
        }
    }
}
