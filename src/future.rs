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
    /// Dropped before its handler began, the future of a guarded request ends there, and the key is
    /// free. Dropped after that, it goes on to its end in the background, on the tokio runtime that
    /// it was made in, and in the span that it was in; see
    /// [`max_detached`](crate::IdempotencyLayer::max_detached) for how long. Without a runtime, or
    /// when that has ended, it is dropped, and the key is free.
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
            why: Option<Unprotected>,
        },
        Refused {
            response: Option<Response<Bytes>>,
        },
        /// The store is asked for the key. Nothing has happened yet that must be carried on.
        Beginning {
            beginning: Pin<Box<dyn Future<Output = Begun<Answer<B, E>>> + Send>>,
        },
        /// The handler runs, and its response is kept.
        Running {
            running: Detachable<Answer<B, E>>,
        },
    }
}

type Answer<B, E> = Result<Response<ResponseBody<B>>, E>;

/// What came of asking the store for a key.
pub(crate) enum Begun<T> {
    /// There is an answer already.
    Answered(T),
    /// The handler is to run.
    Running(Detachable<T>),
}

impl<F, B: Body<Data = Bytes>, E> ResponseFuture<F, B, E> {
    /// Waits for the inner service; the response carries the reason why it is unprotected, if there
    /// is one to report.
    pub(crate) fn passed_through(inner: F, why: Option<Unprotected>) -> Self {
        Self {
            state: State::PassedThrough { inner, why },
        }
    }

    pub(crate) fn refused(response: Response<Bytes>) -> Self {
        Self {
            state: State::Refused {
                response: Some(response),
            },
        }
    }

    pub(crate) fn guarded(
        beginning: impl Future<Output = Begun<Answer<B, E>>> + Send + 'static,
    ) -> Self {
        Self {
            state: State::Beginning {
                beginning: Box::pin(beginning),
            },
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
{
    type Output = Answer<B, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut state = self.as_mut().project().state;
            match state.as_mut().project() {
                StateProj::PassedThrough { inner, why } => {
                    let mut response = ready!(inner.poll(context))?;
                    if let Some(why) = why.take() {
                        let outcome = Outcome::PassedThrough(why);
                        // What a layer further in has done with the request says more.
                        response.extensions_mut().get_or_insert(outcome);
                    }
                    return Poll::Ready(Ok(response.map(ResponseBody::passing)));
                }
                StateProj::Refused { response } => {
                    let response = response.take().expect(POLLED_AFTER_DONE);
                    return Poll::Ready(Ok(response.map(ResponseBody::full)));
                }
                StateProj::Beginning { beginning } => {
                    match ready!(beginning.as_mut().poll(context)) {
                        Begun::Answered(answer) => return Poll::Ready(answer),
                        Begun::Running(running) => state.set(State::Running { running }),
                    }
                }
                StateProj::Running { running } => return running.poll(context),
            }
        }
    }
}

impl<F, B: Body<Data = Bytes>, E> fmt::Debug for ResponseFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// A future that is handed to the runtime when it is dropped unfinished.
pub(crate) struct Detachable<T> {
    future: Option<Boxed<T>>,
    background: Background,
    /// The span that the future was in when it had to wait.
    span: Option<trace::Span>,
    /// Made where the output is known, so that `drop` need not ask what it is.
    detach: fn(Boxed<T>, Option<trace::Span>, &Background),
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<B, E> Detachable<Answer<B, E>>
where
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn new(
        future: impl Future<Output = Answer<B, E>> + Send + 'static,
        background: Background,
    ) -> Self {
        Self {
            future: Some(Box::pin(future)),
            background,
            span: None,
            detach,
        }
    }
}

impl<T> Detachable<T> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<T> {
        // Taken out, so that one that panics is dropped and not carried on in the background.
        let mut future = self.future.take().expect(POLLED_AFTER_DONE);
        let polled = future.as_mut().poll(context);
        if polled.is_pending() {
            self.future = Some(future);
            // Here and not in `drop`, where a middleware further out has left its span.
            self.span.get_or_insert_with(trace::Span::current);
        }
        polled
    }
}

fn detach<B, E>(future: Boxed<Answer<B, E>>, span: Option<trace::Span>, background: &Background)
where
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
    E: Send + 'static,
{
    if let Some(counted) = background.leave() {
        let background_of_work = background.clone();
        let span = span.unwrap_or_else(trace::Span::current);
        background.spawn(span.around(async move {
            if let Some(Ok(response)) = background_of_work.carry_on(future).await {
                response.into_body().leave(counted);
            }
        }));
    }
}

impl<T> Drop for Detachable<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            (self.detach)(future, self.span.take(), &self.background);
        }
    }
}

const POLLED_AFTER_DONE: &str = "ResponseFuture polled after it was done";
