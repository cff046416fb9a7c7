//! What a handler does in a history, what its response is, and what may be kept of it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tower_idempotency::NotKept;

/// The settings of the layer in every history.
pub(crate) const LEASE: Duration = Duration::from_secs(6);
pub(crate) const TTL: Duration = Duration::from_secs(600);
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_millis(500);
pub(crate) const MAX_RESPONSE_BYTES: usize = 64;

/// How long somebody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nap {
    None,
    Millis(u16),
    Third,
    TwoLeases,
}

impl Nap {
    pub(crate) fn length(self) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Millis(millis) => Duration::from_millis(millis.into()),
            Self::Third => LEASE / 3,
            Self::TwoLeases => LEASE * 2,
        }
    }
}

/// What one run of the handler does.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) reads_upload: bool,
    pub(crate) yields: u8,
    pub(crate) nap: Nap,
    pub(crate) ending: Ending,
}

#[derive(Clone, Debug)]
pub(crate) enum Ending {
    Answer(Answer),
    Error,
    Panic,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) do_not_keep: bool,
    pub(crate) binary: bool,
    pub(crate) body: BodyScript,
}

#[derive(Clone, Debug)]
pub(crate) struct BodyScript {
    pub(crate) sizing: Sizing,
    pub(crate) frames: Vec<u8>,
    /// Before the last frame, or the end if there is none.
    pub(crate) nap: Nap,
    pub(crate) end: BodyEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sizing {
    Exact,
    Unknown,
    /// The size hint promises a single byte, and there are more.
    Understated,
    /// The size hint promises more than there is.
    Overstated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyEnd {
    Whole,
    Trailers,
    Broken,
    Panic,
}

/// What the layer must make of a run, if store and client do their part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A record with this body, or without one.
    Kept(Option<Bytes>),
    NotKept(NotKept),
    /// No response, or none that comes to an end: the key is given up.
    GivenUp,
}

impl Script {
    /// Answers after a nap with this status and this body, and otherwise does nothing of note.
    pub(crate) fn answering(nap: Nap, status: u16, sizing: Sizing, frames: Vec<u8>) -> Self {
        let body = BodyScript {
            sizing,
            frames,
            nap: Nap::None,
            end: BodyEnd::Whole,
        };
        Self {
            reads_upload: false,
            yields: 0,
            nap,
            ending: Ending::Answer(Answer {
                status,
                do_not_keep: false,
                binary: false,
                body,
            }),
        }
    }

    pub(crate) fn answer(&self) -> Option<&Answer> {
        match &self.ending {
            Ending::Answer(answer) => Some(answer),
            Ending::Error | Ending::Panic => None,
        }
    }

    pub(crate) fn verdict(&self, run: usize, upload_is_broken: bool) -> Verdict {
        let Some(answer) = self.answer() else {
            return Verdict::GivenUp;
        };
        let body = &answer.body;
        if upload_is_broken {
            Verdict::NotKept(NotKept::BrokenUpload)
        } else if answer.do_not_keep {
            Verdict::NotKept(NotKept::DoNotKeep)
        } else if answer.binary || matches!(answer.status, 401 | 500) {
            Verdict::NotKept(NotKept::Rule)
        } else if body.is_too_long() {
            Verdict::Kept(None)
        } else {
            match body.end {
                // A body that is at its end before its first frame is empty, whatever it promises.
                BodyEnd::Whole
                    if body.sizing == Sizing::Overstated
                        && !(body.frames.is_empty() && body.nap == Nap::None) =>
                {
                    Verdict::NotKept(NotKept::BrokenBody)
                }
                BodyEnd::Whole | BodyEnd::Trailers => Verdict::Kept(Some(body.bytes(run).into())),
                BodyEnd::Broken => Verdict::NotKept(NotKept::BrokenBody),
                BodyEnd::Panic => Verdict::GivenUp,
            }
        }
    }

    /// Returns whether the recording of the body may be cut when its client has left.
    pub(crate) fn may_be_cut(&self, run: usize, upload_is_broken: bool) -> bool {
        let head_is_kept = !matches!(
            self.verdict(run, upload_is_broken),
            Verdict::NotKept(NotKept::BrokenUpload | NotKept::DoNotKeep | NotKept::Rule)
        );
        self.answer().is_some_and(|answer| {
            let body = &answer.body;
            head_is_kept && body.sizing == Sizing::Unknown && body.nap == Nap::TwoLeases
        })
    }
}

impl Answer {
    /// The head as the handler gives it.
    pub(crate) fn headers(&self, run: usize) -> HeaderMap {
        let mut headers = self.kept_headers(run);
        for (name, value) in [
            ("set-cookie", "session=1"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("idempotency-replayed", "forged"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    /// The header fields of the record.
    pub(crate) fn kept_headers(&self, run: usize) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-run", run.into());
        for value in ["b", "a", "b"] {
            headers.append("x-repeated", HeaderValue::from_static(value));
        }
        headers.insert("x-raw", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        let content_type = match self.binary {
            true => "application/octet-stream",
            false => "application/json",
        };
        headers.insert("content-type", HeaderValue::from_static(content_type));
        headers
    }
}

impl BodyScript {
    /// All bytes that come before the end, whatever that is.
    pub(crate) fn bytes(&self, run: usize) -> Vec<u8> {
        let frames = 0..self.frames.len();
        frames.flat_map(|frame| self.frame(run, frame)).collect()
    }

    pub(crate) fn frame(&self, run: usize, frame: usize) -> Vec<u8> {
        let pattern = format!("r{run}f{frame};").into_bytes();
        let length = self.frames[frame].into();
        pattern.into_iter().cycle().take(length).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.iter().map(|length| usize::from(*length)).sum()
    }

    /// The size that the hint promises, if it does.
    pub(crate) fn promised(&self) -> Option<usize> {
        let breaks = matches!(self.end, BodyEnd::Broken | BodyEnd::Panic);
        match self.sizing {
            Sizing::Unknown => None,
            Sizing::Understated => Some(self.len().min(1)),
            Sizing::Exact if !breaks => Some(self.len()),
            Sizing::Exact | Sizing::Overstated => Some(self.len() + 5),
        }
    }

    /// Returns whether the record is made while the body is sent, and not before the response leaves.
    pub(crate) fn is_copied(&self) -> bool {
        let has_ended =
            self.frames.is_empty() && self.nap == Nap::None && self.end == BodyEnd::Whole;
        self.sizing == Sizing::Unknown && !has_ended
    }

    fn is_too_long(&self) -> bool {
        self.promised().unwrap_or(0).max(self.len()) > MAX_RESPONSE_BYTES
    }
}

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UploadKind {
    Empty,
    Frames(u8),
    Broken,
    /// Never comes to an end; no handler reads it.
    Stuck,
}

/// What a client sends, and what the handler does if it gets that.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) script: Script,
    pub(crate) upload: UploadKind,
}
