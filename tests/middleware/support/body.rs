//! A body that follows a script.

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::wait::in_time;

/// A body that gives what it is told to, for requests and responses.
#[derive(Default)]
pub(crate) struct Frames {
    pieces: VecDeque<Piece>,
    size: Option<u64>,
    /// Counts the frames with data that were read, and ends with the body.
    reads: Option<UnboundedSender<()>>,
}

pub(crate) enum Piece {
    Data(&'static str),
    /// Wakes its task and is pending once.
    Pend,
    /// Is pending until this is ready.
    Until(Pin<Box<dyn Future<Output = ()> + Send>>),
    Break,
    Panic,
}

impl Frames {
    /// A body that says how long it is. One that breaks says a byte more.
    pub(crate) fn exact(pieces: impl IntoIterator<Item = impl Into<Piece>>) -> Self {
        let mut frames = Self::unknown(pieces);
        let size = frames.pieces.iter().map(|piece| match piece {
            Piece::Data(data) => data.len() as u64,
            Piece::Break => 1,
            _ => 0,
        });
        frames.size = Some(size.sum());
        frames
    }

    /// A body that does not say how long it is.
    pub(crate) fn unknown(pieces: impl IntoIterator<Item = impl Into<Piece>>) -> Self {
        Self {
            pieces: pieces.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// A body that says that it has this size, and ends before.
    pub(crate) fn short(pieces: impl IntoIterator<Item = impl Into<Piece>>, size: u64) -> Self {
        Self {
            size: Some(size),
            ..Self::unknown(pieces)
        }
    }

    /// Lets the test see how much of the body was read.
    pub(crate) fn watched(mut self) -> (Self, Watch) {
        let (reads, seen) = unbounded_channel();
        self.reads = Some(reads);
        (self, Watch(seen))
    }
}

/// Sees how much of a body is read.
pub(crate) struct Watch(UnboundedReceiver<()>);

impl Watch {
    /// Waits until the body is dropped, and returns how many frames with data were read.
    pub(crate) async fn read_until_dropped(mut self) -> usize {
        let mut frames = 0;
        while in_time(self.0.recv()).await.is_some() {
            frames += 1;
        }
        frames
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
            return Poll::Ready(match self.pieces.pop_front() {
                None => None,
                Some(Piece::Until(_)) => continue,
                Some(Piece::Pend) => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Piece::Data(data)) => {
                    if let Some(size) = &mut self.size {
                        *size -= data.len() as u64;
                    }
                    if let Some(reads) = &self.reads {
                        let _ = reads.send(());
                    }
                    Some(Ok(Frame::data(Bytes::from_static(data.as_bytes()))))
                }
                Some(Piece::Break) => {
                    self.pieces.clear();
                    Some(Err(Broken))
                }
                Some(Piece::Panic) => panic!("the body panics"),
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

impl Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frames({} left)", self.pieces.len())
    }
}

/// What a body ends in that breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body broke")
    }
}
