//! The future that the service returns.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use crate::body::ResponseBody;
use crate::outcome::Outcome;
use crate::outcome::Unprotected;
use crate::runtime::Background;
use crate::trace;

pin_project! {
    /// The response future of [`Idempotency`](crate::Idempotency).
    ///
    /// # Cancellation
    ///
    /// Dropped before it is done, the future of a guarded request is carried on to its end in the
    /// background, on the tokio runtime that it was made in. Without one, or when that has ended, it
    /// is dropped, and the key is free.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, B, E>
    where
        B: Body<Data = Bytes>,
    {
        #[pin]
        state: State<F, B, E>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, B, E>
    where
        B: Body<Data = Bytes>,
    {
        /// The inner service's own future, unboxed: a request that is not guarded pays nothing.
        PassedThrough {
            #[pin]
            inner: F,
            why: Unprotected,
        },
        Guarded {
            guarded: Guarded<Result<Response<ResponseBody<B>>, E>>,
        },
    }
}

impl<F, B: Body<Data = Bytes>, E> ResponseFuture<F, B, E> {
    pub(crate) fn passed_through(inner: F, why: Unprotected) -> Self {
        Self {
            state: State::PassedThrough { inner, why },
        }
    }

    /// Runs this future in place, and in the background if it is dropped unfinished.
    pub(crate) fn guarded<G>(future: G, background: Background) -> Self
    where
        G: Future<Output = Result<Response<ResponseBody<B>>, E>> + Send + 'static,
        B: 'static,
        E: 'static,
    {
        Self::boxed(future, Some((background, carry_on)))
    }

    /// Runs this future in place, and drops it with this one.
    pub(crate) fn refused<G>(future: G) -> Self
    where
        G: Future<Output = Result<Response<ResponseBody<B>>, E>> + Send + 'static,
    {
        Self::boxed(future, None)
    }

    fn boxed<G>(future: G, detach: Option<Detach<Result<Response<ResponseBody<B>>, E>>>) -> Self
    where
        G: Future<Output = Result<Response<ResponseBody<B>>, E>> + Send + 'static,
    {
        let future: Boxed<_> = Box::pin(future);
        let guarded = Guarded {
            future: Some(future),
            detach,
        };
        Self {
            state: State::Guarded { guarded },
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::PassedThrough { inner, why } => {
                let mut response = ready!(inner.poll(context))?;
                // An extension is an allocation, which a method that is not guarded does not cost.
                if *why != Unprotected::Method {
                    response
                        .extensions_mut()
                        .insert(Outcome::PassedThrough(*why));
                }
                Poll::Ready(Ok(response.map(ResponseBody::passing)))
            }
            StateProj::Guarded { guarded } => guarded.poll(context),
        }
    }
}

impl<F, B: Body<Data = Bytes>, E> fmt::Debug for ResponseFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// A future that may be handed to the runtime when it is dropped unfinished.
struct Guarded<T> {
    future: Option<Boxed<T>>,
    detach: Option<Detach<T>>,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Where a dropped future goes. The function is made where its output is known to be `'static`, so
/// that `drop` need not ask for it.
type Detach<T> = (Background, fn(Boxed<T>, &Background));

fn carry_on<T: 'static>(future: Boxed<T>, background: &Background) {
    trace::detached();
    background.spawn(async move {
        drop(future.await);
    });
}

impl<T> Guarded<T> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<T> {
        // Taken out, so that one that panics is dropped and not carried on in the background.
        let mut future = self
            .future
            .take()
            .expect("ResponseFuture polled after it was done");
        let polled = future.as_mut().poll(context);
        if polled.is_pending() {
            self.future = Some(future);
        }
        polled
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        if let (Some(future), Some((background, detach))) = (self.future.take(), &self.detach) {
            detach(future, background);
        }
    }
}
