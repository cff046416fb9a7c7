//! Bodies whose frames a test makes one by one.
//!
//! Not the scripted body of all suites: what comes next is decided here while a client reads.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

type FrameResult = io::Result<Frame<Bytes>>;
pub(crate) type FrameSender = mpsc::UnboundedSender<FrameResult>;

/// A body whose frames are sent by the test, one by one.
pub(crate) struct Frames {
    frames: mpsc::UnboundedReceiver<FrameResult>,
    declared: Option<u64>,
}

impl Frames {
    pub(crate) fn channel(declared: Option<usize>) -> (FrameSender, Body) {
        let (sender, frames) = mpsc::unbounded_channel();
        let declared = declared.map(|size| size as u64);
        (sender, Body::new(Self { frames, declared }))
    }

    /// Makes a body of given frames.
    pub(crate) fn of(
        declared: Option<usize>,
        frames: impl IntoIterator<Item = FrameResult>,
    ) -> Body {
        let (sender, body) = Self::channel(declared);
        for frame in frames {
            sender.send(frame).unwrap();
        }
        body
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<FrameResult>> {
        let frame = ready!(self.frames.poll_recv(context));
        if let (Some(Ok(frame)), Some(size)) = (&frame, &mut self.declared) {
            *size = size.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        let declared = self.declared;
        declared.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

pub(crate) fn data(bytes: impl Into<Bytes>) -> FrameResult {
    Ok(Frame::data(bytes.into()))
}

pub(crate) fn broken() -> FrameResult {
    Err(io::Error::other("the body broke"))
}
