//! The bodies of requests and responses, which do what their script says.

use std::future::pending;

use http::{HeaderMap, HeaderValue};
use support::{Frames, Piece};
use tokio::time::sleep;

use crate::script::{BodyEnd, BodyScript, Nap, UploadKind};

/// The body of a run.
pub(crate) fn response(script: &BodyScript, run: usize) -> Frames {
    let frames = 0..script.frames.len();
    let frames = frames.map(|frame| Piece::Bytes(script.frame(run, frame).into()));
    let mut pieces: Vec<_> = frames.collect();
    if script.nap != Nap::None {
        let last = pieces.len().saturating_sub(1);
        let nap = sleep(script.nap.length());
        pieces.insert(last, Piece::Until(Box::pin(nap)));
    }
    pieces.extend(match script.end {
        BodyEnd::Whole => None,
        BodyEnd::Trailers => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-trailer", HeaderValue::from_static("last"));
            Some(Piece::Trailers(trailers))
        }
        BodyEnd::Broken => Some(Piece::Break),
        BodyEnd::Panic => Some(Piece::Panic),
    });
    let promised = script.promised().map(|bytes| bytes as u64);
    Frames::unknown(pieces).that_promises(promised)
}

/// The body of a request.
pub(crate) fn upload(kind: UploadKind) -> Frames {
    let frames = match kind {
        UploadKind::Empty => 0,
        UploadKind::Frames(frames) => frames,
        UploadKind::Broken | UploadKind::Stuck => 1,
    };
    let frames = (0..frames).map(|_| Piece::Data("upload"));
    Frames::unknown(frames.chain(match kind {
        UploadKind::Empty | UploadKind::Frames(_) => None,
        UploadKind::Broken => Some(Piece::Break),
        UploadKind::Stuck => Some(Piece::Until(Box::pin(pending()))),
    }))
}
