//! The service: which requests are guarded.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::body::drain;
use crate::body::{RequestBody, ResponseBody};
use crate::config::Setup;
use crate::future::ResponseFuture;
use crate::guarded::problem::Problem;
use crate::guarded::{self, Guarded};
use crate::key::IdempotencyKey;
use crate::outcome::Unprotected;
use crate::runtime::Background;
use crate::store::RecordKey;
use crate::store::Store;
use crate::trace;
use crate::transactional::Transactional;

/// The service that [`IdempotencyLayer`](crate::IdempotencyLayer) puts around another.
///
/// See the [crate docs](crate) for what it does and an example.
///
/// Its error is the inner service's own, unchanged: a refusal is a response. It is ready when the
/// inner service is.
///
/// # Cancellation
///
/// See [`ResponseFuture`].
pub struct Idempotency<S, St> {
    inner: S,
    setup: Arc<Setup<St>>,
}

impl<S, St> Idempotency<S, St> {
    pub(crate) fn new(inner: S, setup: Arc<Setup<St>>) -> Self {
        Self { inner, setup }
    }
}

impl<S, St, B, B2> Service<Request<B>> for Idempotency<S, St>
where
    S: Service<Request<RequestBody<B>>, Response = Response<B2>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    St: Store,
    B: Body<Data: Send, Error: Send> + Send + 'static,
    B2: Body<Data = Bytes, Error: Send> + Send + 'static,
{
    type Response = Response<ResponseBody<B2>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, B2, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let config = &self.setup.config;
        if !config.methods.contains(request.method()) {
            // Not reported: an extension is an allocation.
            return self.pass_through(request, None);
        }
        if request.extensions().get::<Guarded>().is_some() {
            // A layer further out answers for it, and reports the outcome.
            return self.pass_through(request, None);
        }
        let key = match IdempotencyKey::from_headers(request.headers(), &config.header_name) {
            Ok(Some(key)) => key,
            Ok(None) if config.require_key => return self.refuse(request, Problem::MissingKey),
            Ok(None) => return self.pass_through(request, Some(Unprotected::NoKey)),
            Err(why) => return self.refuse(request, Problem::InvalidKey(why)),
        };
        let (parts, body) = request.into_parts();
        let caller = (config.caller)(&parts);
        let request = Request::from_parts(parts, body);
        let Some(caller) = caller else {
            trace::no_caller();
            if config.require_key {
                return self.refuse(request, Problem::UnknownCaller);
            }
            return self.pass_through(request, Some(Unprotected::NoCaller));
        };
        let record_key = RecordKey::new(&caller, &key);
        let background = self.background();
        let setup = Arc::clone(&self.setup);
        let ready = self.take_ready();
        let beginning = guarded::begin(setup, background, ready, record_key, key, request);
        ResponseFuture::guarded(beginning)
    }
}

impl<S, St: Store> Idempotency<S, St> {
    fn pass_through<B, B2>(
        &mut self,
        request: Request<B>,
        why: Option<Unprotected>,
    ) -> ResponseFuture<S::Future, B2, S::Error>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<B2>>,
        B2: Body<Data = Bytes>,
    {
        let mut request = request.map(RequestBody::passing);
        if self.setup.config.transactional {
            // Unless a layer further out has one for it.
            let extensions = request.extensions_mut();
            extensions.get_or_insert_with(Transactional::<St>::unguarded);
        }
        ResponseFuture::passed_through(self.inner.call(request), why)
    }

    fn refuse<F, B, B2, E>(
        &mut self,
        request: Request<B>,
        problem: Problem,
    ) -> ResponseFuture<F, B2, E>
    where
        S: Clone,
        B: Body<Data: Send, Error: Send> + Send + 'static,
        B2: Body<Data = Bytes>,
    {
        // Not called, so it must give back what it has reserved to be ready.
        drop(self.take_ready());
        drain(
            request,
            &self.background(),
            self.setup.config.drain_limits(),
        );
        ResponseFuture::refused(problem.into_response())
    }

    fn background(&self) -> Background {
        Background::current(&self.setup.detached, self.setup.config.max_detached)
    }

    /// Takes the service that was polled ready, and leaves a clone of it, which need not be.
    ///
    /// See <https://docs.rs/tower/latest/tower/trait.Service.html#be-careful-when-cloning-inner-services>.
    fn take_ready(&mut self) -> S
    where
        S: Clone,
    {
        let clone = self.inner.clone();
        std::mem::replace(&mut self.inner, clone)
    }
}

// By hand, since a derive would ask the store to be `Clone`.
impl<S: Clone, St> Clone for Idempotency<S, St> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            setup: Arc::clone(&self.setup),
        }
    }
}

impl<S: fmt::Debug, St> fmt::Debug for Idempotency<S, St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency")
            .field("inner", &self.inner)
            .field("setup", &self.setup)
            .finish()
    }
}
