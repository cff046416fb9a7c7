//! What a body gives, as text and as a value.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use support::{Frames, Piece, Read};

/// What a body gives, frame by frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Whether the body says its size.
    pub is_sized: bool,
    pub frames: Vec<Play>,
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

impl Script {
    pub fn of(data: &'static [u8]) -> Self {
        Self {
            is_sized: true,
            frames: vec![Play::Data(Bytes::from_static(data))],
        }
    }

    /// A frame a line: `!` breaks, `^` is trailers, `~` waits, `=` as the first says that the body
    /// says its size, and anything else is data.
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
                Play::Trailers => read.trailers = Some(trailers()),
                Play::Break => read.is_broken = true,
            }
        }
        read
    }

    /// The body that gives this.
    pub fn body(&self) -> Frames {
        let frames = self.frames.iter().map(|play| match play {
            Play::Data(data) => Piece::Bytes(data.clone()),
            Play::Wait => Piece::Pend,
            Play::Trailers => Piece::Trailers(trailers()),
            Play::Break => Piece::Break,
        });
        let size = self.is_sized.then(|| self.whole().data.len() as u64);
        Frames::unknown(frames).that_promises(size)
    }
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("1"));
    trailers
}
