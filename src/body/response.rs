//! The response body that the client reads.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::recording::Recording;
use crate::detached::Counted;

pin_project! {
    /// The body of a response of the layer: the handler's own, or one that was kept.
    // The bound names the error that a body which was read ahead may end in.
    pub struct ResponseBody<B>
    where
        B: Body<Data = Bytes>,
    {
        #[pin]
        state: State<B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<B>
    where
        B: Body<Data = Bytes>,
    {
        Passing {
            #[pin]
            inner: B,
        },
        Full {
            data: Option<Bytes>,
        },
        Buffered {
            buffered: Box<Buffered<B>>,
        },
        Recording {
            recording: Recording<B>,
        },
    }
}

/// Frames that were read ahead, and what is left of the body behind them.
struct Buffered<B: Body<Data = Bytes>> {
    frames: VecDeque<Result<Frame<Bytes>, B::Error>>,
    rest: Option<Pin<Box<B>>>,
    /// The bytes that the body still promises, where it does.
    size: Option<u64>,
}

/// What was read ahead of a body, apart from it.
#[derive(Clone)]
pub(crate) struct Ahead {
    data: Bytes,
    trailers: Option<HeaderMap>,
}

impl Ahead {
    pub(crate) fn new(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self { data, trailers }
    }
}

impl<B: Body<Data = Bytes>> ResponseBody<B> {
    /// Hands the handler's body on as it is.
    pub(crate) fn passing(inner: B) -> Self {
        Self {
            state: State::Passing { inner },
        }
    }

    /// Sends these bytes.
    pub(crate) fn full(data: Bytes) -> Self {
        Self {
            state: State::Full {
                data: (!data.is_empty()).then_some(data),
            },
        }
    }

    /// Sends frames that were read ahead, and then the rest.
    pub(super) fn buffered(
        frames: VecDeque<Result<Frame<Bytes>, B::Error>>,
        rest: Option<Pin<Box<B>>>,
        size: Option<u64>,
    ) -> Self {
        Self {
            state: State::Buffered {
                buffered: Box::new(Buffered { frames, rest, size }),
            },
        }
    }

    /// Sends what was read ahead of a body, and then the rest of it.
    pub(crate) fn behind(ahead: &Ahead, rest: B) -> Self {
        let Ahead { data, trailers } = ahead.clone();
        let size = rest
            .size_hint()
            .exact()
            .map(|rest| rest + data.len() as u64);
        let mut frames = VecDeque::from([Ok(Frame::data(data))]);
        frames.extend(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        Self::buffered(frames, Some(Box::pin(rest)), size)
    }

    /// Hands the handler's body on while a copy is taken.
    pub(crate) fn recording(recording: Recording<B>) -> Self {
        Self {
            state: State::Recording { recording },
        }
    }

    /// Drops the body of a request whose client has left and is counted for that: what is read on
    /// without a client takes the count over.
    pub(crate) fn leave(self, counted: Counted) {
        if let State::Recording { recording } = self.state {
            recording.leave(counted);
        }
    }
}

impl<B: Body<Data = Bytes>> Default for ResponseBody<B> {
    /// Creates an empty body, as the middleware around the layer asks for that answers by itself.
    fn default() -> Self {
        Self::full(Bytes::new())
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().state.project() {
            StateProj::Passing { inner } => inner.poll_frame(context),
            StateProj::Full { data } => Poll::Ready(data.take().map(|data| Ok(Frame::data(data)))),
            StateProj::Buffered { buffered } => buffered.poll_frame(context),
            StateProj::Recording { recording } => recording.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Passing { inner } => inner.is_end_stream(),
            State::Full { data } => data.is_none(),
            State::Buffered { buffered } => buffered.is_end_stream(),
            State::Recording { recording } => recording.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Passing { inner } => inner.size_hint(),
            State::Full { data } => {
                SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64))
            }
            State::Buffered { buffered } => buffered
                .size
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            State::Recording { .. } => SizeHint::default(),
        }
    }
}

impl<B: Body<Data = Bytes>> Buffered<B> {
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(frame) = self.frames.pop_front() else {
            return match &mut self.rest {
                Some(rest) => rest.as_mut().poll_frame(context),
                None => Poll::Ready(None),
            };
        };
        if let (Ok(frame), Some(size)) = (&frame, &mut self.size) {
            let sent = frame.data_ref().map_or(0, Bytes::len);
            *size = size.saturating_sub(sent as u64);
        }
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        let rest = self.rest.as_ref();
        self.frames.is_empty() && rest.is_none_or(Body::is_end_stream)
    }
}

impl<B: Body<Data = Bytes>> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Passing { .. } => "passing",
            State::Full { .. } => "full",
            State::Buffered { .. } => "buffered",
            State::Recording { .. } => "recording",
        };
        f.debug_tuple("ResponseBody").field(&state).finish()
    }
}
