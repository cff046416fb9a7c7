//! What all services of one layer share: the store, the settings, the count of detached work, and the
//! waiters.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{Extensions, HeaderMap, HeaderName, Method, Response, request, response};

use crate::body::DrainLimits;
use crate::caller::CallerId;
use crate::detached::{Detached, MaxDetached};
use crate::guarded::waiters::Waiters;
use crate::in_flight::InFlight;
use crate::keep::{KeepFor, is_kept_by_default};
use crate::outage::Outage;
use crate::refusal::Refusal;
use crate::store::Fingerprint;
use crate::store_failure::StoreFailure;

/// What all services of one layer share.
pub(crate) struct Setup<St> {
    pub(crate) store: Arc<St>,
    pub(crate) config: Config,
    pub(crate) detached: Detached,
    pub(crate) outage: Arc<Outage>,
    pub(crate) waiters: Waiters,
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
    pub(crate) store_failure: StoreFailure,
    pub(crate) in_flight: InFlight,
    pub(crate) methods: Arc<[Method]>,
    pub(crate) header_name: HeaderName,
    pub(crate) caller: Arc<CallerFn>,
    pub(crate) keep_if: Arc<KeepIfFn>,
    pub(crate) target: Option<Arc<TargetFn>>,
    pub(crate) keep_header: Option<Arc<KeepHeaderFn>>,
    pub(crate) on_replay: Option<Arc<OnReplayFn>>,
    pub(crate) refuse_with: Option<Arc<RefuseWithFn>>,
}

pub(crate) type CallerFn = dyn Fn(&request::Parts) -> Option<CallerId> + Send + Sync;
pub(crate) type KeepIfFn = dyn Fn(&response::Parts) -> bool + Send + Sync;
pub(crate) type TargetFn = dyn for<'p> Fn(&'p request::Parts) -> Cow<'p, str> + Send + Sync;
pub(crate) type KeepHeaderFn = dyn Fn(&HeaderName) -> bool + Send + Sync;
pub(crate) type OnReplayFn = dyn Fn(&mut response::Parts) + Send + Sync;
pub(crate) type RefuseWithFn = dyn Fn(Refusal, &request::Parts) -> Response<Bytes> + Send + Sync;

impl Config {
    pub(crate) fn drain_limits(&self) -> DrainLimits {
        DrainLimits {
            bytes: self.max_drained_bytes,
            pause: self.drain_timeout,
        }
    }

    /// Returns what must be equal in a retry of this request.
    pub(crate) fn fingerprint(&self, parts: &request::Parts) -> Fingerprint {
        match &self.target {
            None => Fingerprint::new(&parts.method, &parts.uri),
            Some(target) => Fingerprint::of_target(&parts.method, &target(parts)),
        }
    }

    /// Returns how long a response with these extensions is kept.
    pub(crate) fn ttl_of(&self, extensions: &Extensions) -> Duration {
        let kept_for = extensions.get::<KeepFor>();
        kept_for.map_or(self.ttl, |kept_for| kept_for.0.clamp(LEAST, CENTURY))
    }

    /// Returns the headers that are kept, if the rule leaves some out.
    pub(crate) fn fewer_headers(&self, headers: &HeaderMap) -> Option<Box<HeaderMap>> {
        let keep = self.keep_header.as_ref()?;
        // `Connection` says which others are not kept, and is never kept itself.
        let is_kept = |name: &HeaderName| name == CONNECTION || keep(name);
        let kept = headers.iter().filter(|(name, _)| is_kept(name));
        let kept = kept.map(|(name, value)| (name.clone(), value.clone()));
        Some(Box::new(kept.collect()))
    }

    /// Takes a duration of at least a millisecond, which is what every store can tell apart, and at
    /// most a century, beyond which a store's clock may overflow.
    pub(crate) fn checked(name: &str, value: Duration) -> Duration {
        assert!(
            value >= LEAST,
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

const LEAST: Duration = Duration::from_millis(1);
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
            store_failure: StoreFailure::Open,
            in_flight: InFlight::Refuse,
            methods: Arc::new([Method::POST, Method::PUT, Method::PATCH, Method::DELETE]),
            header_name: HeaderName::from_static("idempotency-key"),
            caller: Arc::new(|parts| CallerId::from_credentials(&parts.headers)),
            keep_if: Arc::new(is_kept_by_default),
            target: None,
            keep_header: None,
            on_replay: None,
            refuse_with: None,
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
            .field("store_failure", &self.store_failure)
            .field("in_flight", &self.in_flight)
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
            waiters: self.waiters.clone(),
        }
    }
}

impl<St> fmt::Debug for Setup<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("config", &self.config)
            .field("detached", &self.detached)
            .field("waiters", &self.waiters)
            .finish_non_exhaustive()
    }
}
