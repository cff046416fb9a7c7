//! A body that does what it is told.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};

/// What a body gives, frame by frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Whether the body tells its size.
    pub is_sized: bool,
    pub frames: VecDeque<Play>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Play {
    Data(Bytes),
    /// Is not ready, once.
    Wait,
    /// Trailers, and with them the end.
    Trailers,
    /// Breaks.
    Break,
}

/// What a reader got from a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    pub data: Vec<u8>,
    pub has_trailers: bool,
    pub is_broken: bool,
}

impl Script {
    pub fn of(data: &'static [u8]) -> Self {
        Self {
            is_sized: true,
            frames: [Play::Data(Bytes::from_static(data))].into(),
        }
    }

    /// A frame a line: `!` breaks, `^` is trailers, `~` waits, `=` as the first says that the body
    /// tells its size, and anything else is data.
    pub fn parse(text: &[u8]) -> Self {
        let rest = text.strip_prefix(b"=\n");
        let lines = rest.unwrap_or(text).split(|byte| *byte == b'\n').take(64);
        let frames = lines
            .filter(|line| !line.is_empty())
            .map(|line| match line {
                b"!" => Play::Break,
                b"^" => Play::Trailers,
                b"~" => Play::Wait,
                data => Play::Data(Bytes::copy_from_slice(data)),
            });
        Self::new(rest.is_some(), frames)
    }

    pub fn new(is_sized: bool, frames: impl IntoIterator<Item = Play>) -> Self {
        let mut script = Self {
            is_sized,
            frames: frames.into_iter().collect(),
        };
        // Trailers and errors come last.
        let is_last = |play: &Play| matches!(play, Play::Trailers | Play::Break);
        if let Some(last) = script.frames.iter().position(is_last) {
            script.frames.truncate(last + 1);
        }
        script
    }

    /// What a reader gets that reads all.
    pub fn whole(&self) -> Read {
        let mut read = Read::default();
        for play in &self.frames {
            match play {
                Play::Data(data) => read.data.extend_from_slice(data),
                Play::Wait => {}
                Play::Trailers => read.has_trailers = true,
                Play::Break => read.is_broken = true,
            }
        }
        read
    }

    fn data_left(&self) -> u64 {
        let frames = self.frames.iter().map(|play| match play {
            Play::Data(data) => data.len() as u64,
            _ => 0,
        });
        frames.sum()
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let frame = match self.frames.pop_front() {
            None => None,
            Some(Play::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Play::Trailers) => Some(Ok(Frame::trailers(trailers()))),
            Some(Play::Break) => Some(Err("the body broke")),
            Some(Play::Wait) => {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_sized {
            SizeHint::with_exact(self.data_left())
        } else {
            SizeHint::default()
        }
    }
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("1"));
    trailers
}

/// Reads a body to its end or to where it breaks.
pub async fn read<B: Body<Data = Bytes>>(body: B) -> Read {
    let mut body = std::pin::pin!(body);
    let mut read = Read::default();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => read.data.extend_from_slice(&data),
            Ok(Err(frame)) => {
                assert_eq!(frame.trailers_ref(), Some(&trailers()));
                read.has_trailers = true;
            }
            Err(_) => {
                read.is_broken = true;
                break;
            }
        }
    }
    read
}
