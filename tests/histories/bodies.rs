//! The bodies of requests and responses, which do what their script says.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use crate::script::{BodyEnd, BodyScript, Broken, Nap, UploadKind};

/// The body of a run.
#[derive(Debug)]
pub(crate) struct ScriptedBody {
    frames: VecDeque<Bytes>,
    nap: Option<Pin<Box<Sleep>>>,
    end: Option<BodyEnd>,
    promised: Option<usize>,
}

impl ScriptedBody {
    pub(crate) fn new(script: &BodyScript, run: usize) -> Self {
        let frames = 0..script.frames.len();
        let nap = script.nap != Nap::None;
        Self {
            frames: frames
                .map(|frame| script.frame(run, frame).into())
                .collect(),
            nap: nap.then(|| Box::pin(tokio::time::sleep(script.nap.length()))),
            end: Some(script.end),
            promised: script.promised(),
        }
    }
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        if this.frames.len() < 2 {
            if let Some(nap) = &mut this.nap {
                ready!(nap.as_mut().poll(context));
                this.nap = None;
            }
        }
        if let Some(data) = this.frames.pop_front() {
            let promised = &mut this.promised;
            *promised = promised.map(|promised| promised.saturating_sub(data.len()));
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        Poll::Ready(match this.end.take() {
            None | Some(BodyEnd::Whole) => None,
            Some(BodyEnd::Trailers) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-trailer", HeaderValue::from_static("last"));
                Some(Ok(Frame::trailers(trailers)))
            }
            Some(BodyEnd::Broken) => Some(Err(Broken)),
            Some(BodyEnd::Panic) => std::panic::panic_any(Broken),
        })
    }

    fn is_end_stream(&self) -> bool {
        let at_end = matches!(self.end, None | Some(BodyEnd::Whole));
        self.frames.is_empty() && self.nap.is_none() && at_end
    }

    fn size_hint(&self) -> SizeHint {
        let promised = self.promised.map(|promised| promised as u64);
        promised.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The body of a request.
#[derive(Debug)]
pub(crate) struct Upload {
    frames: u8,
    kind: UploadKind,
}

impl Upload {
    pub(crate) fn new(kind: UploadKind) -> Self {
        let frames = match kind {
            UploadKind::Empty => 0,
            UploadKind::Frames(frames) => frames,
            UploadKind::Broken | UploadKind::Stuck => 1,
        };
        Self { frames, kind }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(left) = self.frames.checked_sub(1) {
            self.frames = left;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"upload")))));
        }
        match self.kind {
            UploadKind::Broken => Poll::Ready(Some(Err(Broken))),
            UploadKind::Stuck => Poll::Pending,
            UploadKind::Empty | UploadKind::Frames(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames == 0 && matches!(self.kind, UploadKind::Empty | UploadKind::Frames(_))
    }
}
