//! What all services of one layer share: the store, the settings, and the count of detached work.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method, request, response};

use crate::body::DrainLimits;
use crate::caller::CallerId;
use crate::detached::{Detached, MaxDetached};
use crate::keep::is_kept_by_default;
use crate::outage::Outage;

/// The store, the settings, and the count of detached work.
pub(crate) struct Setup<St> {
    pub(crate) store: Arc<St>,
    pub(crate) config: Config,
    pub(crate) detached: Detached,
    pub(crate) outage: Arc<Outage>,
}

/// What the layer's setters set.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) ttl: Duration,
    pub(crate) lease: Duration,
    pub(crate) store_timeout: Duration,
    pub(crate) max_response_bytes: usize,
    pub(crate) max_drained_bytes: usize,
    pub(crate) drain_timeout: Duration,
    pub(crate) max_detached: MaxDetached,
    pub(crate) require_key: bool,
    pub(crate) transactional: bool,
    pub(crate) methods: Arc<[Method]>,
    pub(crate) header_name: HeaderName,
    pub(crate) caller: Arc<CallerFn>,
    pub(crate) keep_if: Arc<KeepIfFn>,
}

pub(crate) type CallerFn = dyn Fn(&request::Parts) -> Option<CallerId> + Send + Sync;
pub(crate) type KeepIfFn = dyn Fn(&response::Parts) -> bool + Send + Sync;

impl Config {
    pub(crate) fn drain_limits(&self) -> DrainLimits {
        DrainLimits {
            bytes: self.max_drained_bytes,
            pause: self.drain_timeout,
        }
    }

    /// Takes a duration of at least a millisecond, which is what every store can tell apart, and at
    /// most a century, beyond which a store's clock may overflow.
    pub(crate) fn checked(name: &str, value: Duration) -> Duration {
        assert!(
            value >= Duration::from_millis(1),
            "{name} is {value:?}, but it must be at least 1ms"
        );
        value.min(CENTURY)
    }

    /// Takes methods of which a retry could do harm.
    pub(crate) fn checked_methods(methods: impl IntoIterator<Item = Method>) -> Arc<[Method]> {
        let methods: Arc<[Method]> = methods.into_iter().collect();
        assert!(
            !methods.is_empty(),
            "methods is empty, so the layer would do nothing: name at least one, such as POST"
        );
        for method in &*methods {
            assert!(
                !method.is_safe() && method != Method::CONNECT,
                "methods has {method}, which is never guarded: name methods that write, such as \
                 POST, PUT, PATCH and DELETE"
            );
        }
        methods
    }
}

const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Default for Config {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(24 * 60 * 60),
            lease: Duration::from_secs(60),
            store_timeout: Duration::from_millis(500),
            max_response_bytes: 1024 * 1024,
            max_drained_bytes: 256 * 1024 * 1024,
            drain_timeout: Duration::from_secs(10),
            max_detached: MaxDetached {
                time: Duration::from_secs(60 * 60),
                number: 10_000,
            },
            require_key: false,
            transactional: false,
            methods: Arc::new([Method::POST, Method::PUT, Method::PATCH, Method::DELETE]),
            header_name: HeaderName::from_static("idempotency-key"),
            caller: Arc::new(|parts| CallerId::from_credentials(&parts.headers)),
            keep_if: Arc::new(is_kept_by_default),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("ttl", &self.ttl)
            .field("lease", &self.lease)
            .field("store_timeout", &self.store_timeout)
            .field("max_response_bytes", &self.max_response_bytes)
            .field("max_drained_bytes", &self.max_drained_bytes)
            .field("drain_timeout", &self.drain_timeout)
            .field("max_detached", &self.max_detached)
            .field("require_key", &self.require_key)
            .field("transactional", &self.transactional)
            .field("methods", &self.methods)
            .field("header_name", &self.header_name)
            .finish_non_exhaustive()
    }
}

// By hand, since a derive would ask the store to be `Clone`.
impl<St> Clone for Setup<St> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            config: self.config.clone(),
            detached: self.detached.clone(),
            outage: Arc::clone(&self.outage),
        }
    }
}

impl<St> fmt::Debug for Setup<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("config", &self.config)
            .field("detached", &self.detached)
            .finish_non_exhaustive()
    }
}
