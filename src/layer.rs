//! The layer, which is its own builder.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, Response, request, response};
use tower_layer::Layer;

use crate::caller::CallerId;
use crate::config::Config;
use crate::config::Setup;
use crate::detached::{Detached, MaxDetached};
use crate::guarded::waiters::Waiters;
use crate::in_flight::InFlight;
use crate::refusal::Refusal;
use crate::service::Idempotency;
use crate::store::{Store, TransactionalStore};
use crate::store_failure::StoreFailure;

/// A layer that makes a retried write happen once.
///
/// See the [crate docs](crate) for what it does. Each setting has a default that suits a public API.
/// A clone has the same store, and so do all services of the layer.
///
/// # Runtime
///
/// The services are to be called on a tokio runtime with time enabled. Without time, there are no
/// timers: the store is waited for without a limit, a lease is not renewed, and no duplicate waits for
/// the first request. Outside of a runtime there is no background either: the handler of a client that
/// leaves is dropped, which frees the key.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::{IdempotencyLayer, MemoryStore};
///
/// let layer = IdempotencyLayer::new(MemoryStore::new())
///     .ttl(Duration::from_secs(7 * 24 * 60 * 60))
///     .require_key(true);
/// # let _ = layer;
/// ```
#[must_use]
pub struct IdempotencyLayer<St> {
    // Shared with the services, since axum makes a service of a layer for every request.
    setup: Arc<Setup<St>>,
}

impl<St: Store> IdempotencyLayer<St> {
    /// Creates a layer that keeps its records in this store, with all settings at their defaults.
    pub fn new(store: St) -> Self {
        Self {
            setup: Arc::new(Setup {
                store: Arc::new(store),
                config: Config::default(),
                detached: Detached::default(),
                outage: Arc::default(),
                waiters: Waiters::default(),
            }),
        }
    }

    /// Sets how long a response is kept. Default: 24 hours.
    ///
    /// The time runs from the end of the first request; a replay does not prolong it. More than a
    /// century is taken for a century.
    ///
    /// # Panics
    ///
    /// Panics if `ttl` is below a millisecond.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.config().ttl = Config::checked("ttl", ttl);
        self
    }

    /// Sets how long a key stays claimed when its process dies. Default: 60 seconds.
    ///
    /// While a handler or its response body runs, its claim is renewed, first after a twelfth of this
    /// time and then at each third, so a handler may take much longer. It must not keep its thread
    /// busy for longer without an `await`, since nothing can be renewed meanwhile. Give it several
    /// times the [`store_timeout`](Self::store_timeout): it counts from before the store's reply.
    ///
    /// # Panics
    ///
    /// Panics if `lease` is below a millisecond.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.config().lease = Config::checked("lease", lease);
        self
    }

    /// Sets how long a request waits for the store, all in all. Default: 500 milliseconds.
    ///
    /// A store that takes longer counts as failed, and the request goes on without it.
    ///
    /// # Panics
    ///
    /// Panics if `store_timeout` is below a millisecond.
    pub fn store_timeout(mut self, store_timeout: Duration) -> Self {
        self.config().store_timeout = Config::checked("store_timeout", store_timeout);
        self
    }

    /// Sets how many bytes of a response body are kept. Default: 1 MiB.
    ///
    /// A longer body reaches the client whole all the same. Its replay has the status, the headers
    /// but those that speak of the body's bytes (such as `Content-Encoding`), an empty body, and the
    /// header `Idempotency-Replay-Body: omitted`. A body of unknown size is read ahead of its client
    /// up to this limit, in memory.
    pub fn max_response_bytes(mut self, max_response_bytes: usize) -> Self {
        self.config().max_response_bytes = max_response_bytes;
        self
    }

    /// Sets how many bytes of an upload are read behind a refusal or a replay. Default: 256 MiB.
    ///
    /// The layer answers such a request at once, whatever its client still sends. The rest of the
    /// upload is read and dropped behind the answer, since a server that closes the connection under
    /// a client that is still sending makes that client lose the answer. Beyond this limit it does.
    /// Nothing is read for a client that waits with `Expect: 100-continue` (RFC 9110, section
    /// 10.1.1).
    pub fn max_drained_bytes(mut self, max_drained_bytes: usize) -> Self {
        self.config().max_drained_bytes = max_drained_bytes;
        self
    }

    /// Sets how long an upload may pause while it is read behind a refusal or a replay. Default: 10
    /// seconds.
    ///
    /// A slow upload is read to its end as long as some of it comes within each such time. See
    /// [`max_drained_bytes`](Self::max_drained_bytes).
    ///
    /// # Panics
    ///
    /// Panics if `drain_timeout` is below a millisecond.
    pub fn drain_timeout(mut self, drain_timeout: Duration) -> Self {
        self.config().drain_timeout = Config::checked("drain_timeout", drain_timeout);
        self
    }

    /// Sets how long a handler may run on after its client has left, and how many may do so at once.
    /// Default: 1 hour and 10,000.
    ///
    /// A handler that reaches the time is dropped, and so is one whose client leaves when there are
    /// as many already; either is logged, and its key is free. A body that is still being read then
    /// is dropped, too; its record has status and headers, as for a body over
    /// [`max_response_bytes`](Self::max_response_bytes). The writes to the store that are made in the
    /// background are counted by themselves, and bounded by the same number, or by 100 if that is
    /// more. The layer's clones and all their services count together. With a number of 0, a handler
    /// ends when its client leaves.
    ///
    /// # Panics
    ///
    /// Panics if `time` is below a millisecond.
    pub fn max_detached(mut self, time: Duration, number: usize) -> Self {
        let time = Config::checked("max_detached", time);
        self.config().max_detached = MaxDetached { time, number };
        self
    }

    /// Sets whether a request that can't be protected is refused with 400. Default: `false`, it
    /// passes through unprotected.
    ///
    /// With `true`, a guarded method needs a key, and a caller that can be identified.
    pub fn require_key(mut self, require_key: bool) -> Self {
        self.config().require_key = require_key;
        self
    }

    /// Sets what becomes of a request while the store fails. Default: [`StoreFailure::Open`], the
    /// handler runs, unprotected.
    ///
    /// With [`StoreFailure::Closed`], a request whose key can't be claimed is refused with 503 before
    /// its handler runs: at once where the store knows that it is down, and after
    /// [`store_timeout`](Self::store_timeout) at most. Whatever kind of failure it is counts: a store
    /// that is unavailable, slow, full, set up wrongly, or holds something that can't be read.
    ///
    /// A response that can't be kept after its handler has run goes out in both modes. Such a write is
    /// tried again in the background, and its key stays claimed meanwhile.
    ///
    /// A handler that runs all the same finds [`Unprotected`](crate::Unprotected) in its request's
    /// extensions.
    pub fn on_store_failure(mut self, store_failure: StoreFailure) -> Self {
        self.config().store_failure = store_failure;
        self
    }

    /// Sets what becomes of a request whose key belongs to one that is still running. Default:
    /// [`InFlight::Refuse`], it is refused with 409.
    ///
    /// With [`InFlight::Wait`], it waits for that one's answer. [`InFlight`] says how, and has an example.
    ///
    /// # Panics
    ///
    /// Panics if the time to wait is below a millisecond.
    pub fn in_flight(mut self, in_flight: InFlight) -> Self {
        self.config().in_flight = match in_flight {
            InFlight::Refuse => InFlight::Refuse,
            InFlight::Wait(max) => InFlight::Wait(Config::checked("in_flight", max)),
        };
        self
    }

    /// Sets which methods are guarded. Default: POST, PUT, PATCH and DELETE.
    ///
    /// # Panics
    ///
    /// Panics if there is none, or one that is safe (RFC 9110, section 9.2.1) or CONNECT.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.config().methods = Config::checked_methods(methods);
        self
    }

    /// Sets the header that the key is read from. Default: `Idempotency-Key`.
    ///
    /// The headers of a replay, such as `Idempotency-Replayed`, keep their names.
    pub fn header_name(mut self, header_name: HeaderName) -> Self {
        self.config().header_name = header_name;
        self
    }

    /// Sets how the caller is identified, within whom a key is unique. Default:
    /// [`CallerId::from_credentials`].
    ///
    /// **A user's cookie beside an application-wide `X-Api-Key` makes one caller of all users**: the
    /// default knows the key and not the cookie, so a user who picks another one's idempotency key
    /// gets that user's response, or a 422. Wherever one credential stands for many users, identify
    /// the user here, by what authentication has found out. [`CallerId`] has an example.
    ///
    /// The default identifies a caller by the credential itself, so
    ///
    /// - **a token that is renewed makes another caller**: a retry that comes with a new access token
    ///   runs the handler again. Identify the user here if tokens are short-lived, or if clients sign
    ///   a token of their own for each request;
    /// - **a signed request identifies nobody** (AWS signatures, HTTP Signature, OAuth 1, Digest and
    ///   their like are made anew for each request): it passes through unprotected, with a warning.
    ///   Identify the holder of the signing key here.
    ///
    /// A request whose caller is `None` passes through unprotected, or is refused if
    /// [`require_key`](Self::require_key) is set.
    pub fn caller<F>(mut self, caller: F) -> Self
    where
        F: Fn(&request::Parts) -> Option<CallerId> + Send + Sync + 'static,
    {
        self.config().caller = Arc::new(caller);
        self
    }

    /// Sets which responses are kept. Default: [`is_kept_by_default`](crate::is_kept_by_default), which has an
    /// example.
    ///
    /// Whatever the rule, a response is not kept if it carries [`DoNotKeep`](crate::DoNotKeep),
    /// is informational (1xx), or answers a request or has a body that broke half-way.
    pub fn keep_if<F>(mut self, keep_if: F) -> Self
    where
        F: Fn(&response::Parts) -> bool + Send + Sync + 'static,
    {
        self.config().keep_if = Arc::new(keep_if);
        self
    }

    /// Sets what counts as a request's target, which must be equal in a retry. Default: path and query,
    /// as this layer sees them.
    ///
    /// A key that comes again with another target or another method is refused with 422. Set this if
    /// the layer sees less than the client has sent (under axum's `nest`, take `OriginalUri` from the
    /// extensions), if more counts (a tenant, the host), or less (a query in another order).
    ///
    /// If `target` panics, so does the call; nothing has run then.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::borrow::Cow;
    /// use axum::extract::OriginalUri;
    /// use tower_idempotency::{IdempotencyLayer, MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new()).target(|parts| {
    ///     match parts.extensions.get::<OriginalUri>() {
    ///         Some(OriginalUri(uri)) => Cow::Owned(uri.to_string()),
    ///         None => Cow::Borrowed(parts.uri.path()),
    ///     }
    /// });
    /// # let _ = layer;
    /// ```
    pub fn target<F>(mut self, target: F) -> Self
    where
        F: for<'p> Fn(&'p request::Parts) -> Cow<'p, str> + Send + Sync + 'static,
    {
        self.config().target = Some(Arc::new(target));
        self
    }

    /// Sets which headers of a response are kept. Default: all.
    ///
    /// Never kept, whatever this says, are those of the connection (RFC 9110, section 7.6.1), `Date`,
    /// `Content-Length` (made anew) and `Set-Cookie`. If `keep_header` panics, the response goes out and
    /// its key stays claimed for a [`lease`](Self::lease), as if [`keep_if`](Self::keep_if) did.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new())
    ///     .keep_header(|name| name != "x-request-id");
    /// # let _ = layer;
    /// ```
    pub fn keep_header<F>(mut self, keep_header: F) -> Self
    where
        F: Fn(&HeaderName) -> bool + Send + Sync + 'static,
    {
        self.config().keep_header = Some(Arc::new(keep_header));
        self
    }

    /// Sets what is done to the head of each replay before it goes out. Default: nothing.
    ///
    /// The head has `Idempotency-Replayed` then; the body can't be changed. If `on_replay` panics, so
    /// does the response's future; the handler does not run, and what is kept stays.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::HeaderValue;
    /// use tower_idempotency::{IdempotencyLayer, MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new()).on_replay(|parts| {
    ///     let never = HeaderValue::from_static("no-store");
    ///     parts.headers.insert("cache-control", never);
    /// });
    /// # let _ = layer;
    /// ```
    pub fn on_replay<F>(mut self, on_replay: F) -> Self
    where
        F: Fn(&mut response::Parts) + Send + Sync + 'static,
    {
        self.config().on_replay = Some(Arc::new(on_replay));
        self
    }

    /// Sets what answers a request that is refused. Default: [`Refusal::to_response`], problem details
    /// (RFC 9457) in English.
    ///
    /// The response goes out as it is; its [`Outcome`](crate::Outcome) is added. If `refuse_with` panics,
    /// so does the call or its future; the handler does not run.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Response;
    /// use tower_idempotency::{IdempotencyLayer, MemoryStore, Refusal};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new()).refuse_with(|refusal, request| {
    ///     let german = request.headers.get("accept-language").is_some_and(|value| value == "de");
    ///     match refusal {
    ///         Refusal::MissingKey if german => Response::builder()
    ///             .status(refusal.status())
    ///             .body(Bytes::from_static("Der Idempotenzschlüssel fehlt".as_bytes()))
    ///             .expect("a valid response"),
    ///         _ => refusal.to_response(),
    ///     }
    /// });
    /// # let _ = layer;
    /// ```
    pub fn refuse_with<F>(mut self, refuse_with: F) -> Self
    where
        F: Fn(Refusal, &request::Parts) -> Response<Bytes> + Send + Sync + 'static,
    {
        self.config().refuse_with = Some(Arc::new(refuse_with));
        self
    }

    /// Lets handlers keep their responses in transactions of their own. Default: they can't, and the
    /// layer keeps all responses.
    ///
    /// Each request then has a [`Transactional<St>`](crate::Transactional) in its extensions;
    /// [exactly once](crate::guide::exactly_once) has an example. A handler that does not use it has its
    /// response kept as ever.
    ///
    /// Claims need not wait for the disk then
    /// ([`Claim::is_durable`](crate::store::Claim::is_durable)): after a crash of the database's server, a
    /// retry may run beside the first request, and only one of them can commit. A handler without a
    /// transaction is not protected against that.
    pub fn transactional(mut self) -> Self
    where
        St: TransactionalStore,
    {
        self.config().transactional = true;
        self
    }

    /// Returns a handle to wait, at shutdown, for the work whose client has left.
    ///
    /// It stands for the work of this layer, its clones, and all their services. See [`Detached`]
    /// for an example.
    pub fn detached(&self) -> Detached {
        self.setup.detached.clone()
    }

    /// Returns the settings to change them; those of services that were made before stay.
    fn config(&mut self) -> &mut Config {
        &mut Arc::make_mut(&mut self.setup).config
    }
}

// By hand, since a derive would ask the store to be `Clone`.
impl<St> Clone for IdempotencyLayer<St> {
    fn clone(&self) -> Self {
        Self {
            setup: Arc::clone(&self.setup),
        }
    }
}

impl<St> fmt::Debug for IdempotencyLayer<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer")
            .field("setup", &self.setup)
            .finish()
    }
}

impl<S, St> Layer<S> for IdempotencyLayer<St> {
    type Service = Idempotency<S, St>;

    fn layer(&self, inner: S) -> Self::Service {
        Idempotency::new(inner, Arc::clone(&self.setup))
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    fn layer() -> IdempotencyLayer<MemoryStore> {
        IdempotencyLayer::new(MemoryStore::new())
    }

    #[test]
    #[should_panic(expected = "ttl is 0ns, but it must be at least 1ms")]
    fn a_zero_ttl_is_refused() {
        let _ = layer().ttl(Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "lease is 0ns, but it must be at least 1ms")]
    fn a_zero_lease_is_refused() {
        let _ = layer().lease(Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "store_timeout is 0ns, but it must be at least 1ms")]
    fn a_zero_store_timeout_is_refused() {
        let _ = layer().store_timeout(Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "in_flight is 0ns, but it must be at least 1ms")]
    fn a_wait_of_no_time_is_refused() {
        let _ = layer().in_flight(InFlight::Wait(Duration::ZERO));
    }

    #[test]
    #[should_panic(expected = "methods has GET, which is never guarded")]
    fn a_safe_method_is_refused() {
        let _ = layer().methods([Method::POST, Method::GET]);
    }

    #[test]
    #[should_panic(expected = "methods is empty")]
    fn no_methods_are_refused() {
        let _ = layer().methods([]);
    }

    #[test]
    fn the_layer_and_its_service_are_clone_send_and_sync() {
        fn check<T: Clone + Send + Sync + 'static>(_: &T) {}
        let layer = layer();
        check(&layer);
        check(&layer.layer(()));
    }
}
