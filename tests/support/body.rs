//! A body that follows a script, and what a reader gets of a body.

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::future::{Future, poll_fn};
use std::panic::panic_any;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::wait::in_time;

/// A body that gives what it is told to, for requests and responses.
#[derive(Default)]
pub struct Frames {
    pieces: VecDeque<Piece>,
    size: Option<u64>,
    /// Counts the frames with data that were read, and ends with the body.
    reads: Option<UnboundedSender<()>>,
}

pub enum Piece {
    Data(&'static str),
    Bytes(Bytes),
    Trailers(HeaderMap),
    /// Wakes its task and is pending once.
    Pend,
    /// Is pending until this is ready.
    Until(Pin<Box<dyn Future<Output = ()> + Send>>),
    Break,
    /// Panics with [`Broken`].
    Panic,
}

impl Frames {
    /// A body that says how long it is. One that breaks says a byte more.
    pub fn exact(pieces: impl IntoIterator<Item = impl Into<Piece>>) -> Self {
        let frames = Self::unknown(pieces);
        let size = frames.pieces.iter().map(|piece| match piece {
            Piece::Break => 1,
            piece => piece.len(),
        });
        let size = size.sum();
        frames.that_promises(Some(size))
    }

    /// A body that does not say how long it is.
    pub fn unknown(pieces: impl IntoIterator<Item = impl Into<Piece>>) -> Self {
        Self {
            pieces: pieces.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Lets the body say that it has this many bytes, whether or not that is so.
    pub fn that_promises(self, size: Option<u64>) -> Self {
        Self { size, ..self }
    }

    /// Lets the test see how much of the body was read.
    pub fn watched(mut self) -> (Self, Watch) {
        let (reads, seen) = unbounded_channel();
        self.reads = Some(reads);
        (self, Watch(seen))
    }
}

/// Sees how much of a body is read.
pub struct Watch(UnboundedReceiver<()>);

impl Watch {
    /// Waits until the body is dropped, and returns how many frames with data were read.
    pub async fn read_until_dropped(mut self) -> usize {
        let mut frames = 0;
        while in_time(self.0.recv()).await.is_some() {
            frames += 1;
        }
        frames
    }
}

impl Piece {
    fn len(&self) -> u64 {
        let len = match self {
            Self::Data(data) => data.len(),
            Self::Bytes(bytes) => bytes.len(),
            _ => 0,
        };
        len as u64
    }
}

impl From<&'static str> for Piece {
    fn from(data: &'static str) -> Self {
        Self::Data(data)
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            if let Some(Piece::Until(future)) = self.pieces.front_mut() {
                ready!(future.as_mut().poll(context));
            }
            let piece = self.pieces.pop_front();
            if let (Some(size), Some(piece)) = (&mut self.size, &piece) {
                *size = size.saturating_sub(piece.len());
            }
            if let (Some(reads), Some(Piece::Data(_) | Piece::Bytes(_))) = (&self.reads, &piece) {
                let _ = reads.send(());
            }
            return Poll::Ready(match piece {
                None => None,
                Some(Piece::Until(_)) => continue,
                Some(Piece::Pend) => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Piece::Data(data)) => Some(Ok(Frame::data(data.into()))),
                Some(Piece::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
                Some(Piece::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Some(Piece::Break) => {
                    self.pieces.clear();
                    Some(Err(Broken))
                }
                Some(Piece::Panic) => panic_any(Broken),
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.size
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Shows the data, so that a test sees where somebody shows a body.
impl Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.pieces).finish()
    }
}

impl Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(data) => data.fmt(f),
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::Trailers(trailers) => trailers.fmt(f),
            Self::Pend => f.write_str("Pend"),
            Self::Until(_) => f.write_str("Until"),
            Self::Break => f.write_str("Break"),
            Self::Panic => f.write_str("Panic"),
        }
    }
}

/// What a body ends in that breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body broke")
    }
}

impl std::error::Error for Broken {}

/// What a reader got from a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    pub data: Vec<u8>,
    pub trailers: Option<HeaderMap>,
    pub is_broken: bool,
}

/// Reads a body to its end or to where it breaks.
pub async fn read<B: Body<Data = Bytes>>(body: B) -> Read {
    let mut body = pin!(body);
    let mut read = Read::default();
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => read.data.extend_from_slice(&data),
            Ok(Err(frame)) => read.trailers = frame.into_trailers().ok(),
            Err(_) => {
                read.is_broken = true;
                break;
            }
        }
    }
    read
}
