//! Passing a body of unknown size on while a copy is taken.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::chunks::Chunks;
use crate::runtime::Background;
use crate::trace;

/// What was recorded of a body when its record is made.
pub(crate) enum Recorded {
    /// All of it.
    Whole(Vec<u8>),
    /// It goes beyond the limit, or its client left and it did not come to an end.
    TooLong,
    /// It broke, or ended before its `Content-Length`.
    Broken,
}

/// What is to be done with the recording, once.
pub(crate) type Finish = Box<dyn FnOnce(Recorded) -> Finished + Send>;

/// Is ready when it is done.
pub(crate) type Finished = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A body that is passed on frame by frame while a copy is taken.
///
/// Dropped half-read, it is read to its end in the background.
pub(crate) struct Recording<B: Body<Data = Bytes>> {
    recorder: Option<Box<Recorder<B>>>,
    background: Background,
    /// Made where the body is known to be sendable, so that `drop` need not ask for it.
    detach: fn(Box<Recorder<B>>, &Background),
}

struct Recorder<B: Body<Data = Bytes>> {
    inner: Pin<Box<B>>,
    copied: Chunks,
    limit: usize,
    /// What `Content-Length` says, where the handler has set it.
    declared: Option<u64>,
    /// How long the body is still read when its client has left.
    patience: Duration,
    finish: Option<Finish>,
    stage: Stage<B>,
}

enum Stage<B: Body<Data = Bytes>> {
    /// Frames are passed on and copied.
    Copying,
    /// The record is made; then this is the next frame, or the end.
    Settling(Finished, Option<Result<Frame<Bytes>, B::Error>>, After),
    /// The record is made without the body, the rest of which is passed on.
    Passing,
    /// The body has ended.
    Ended,
}

/// What follows when the record is made.
#[derive(Clone, Copy)]
enum After {
    Passing,
    Ended,
}

type FrameResult<B> = Option<Result<Frame<Bytes>, <B as Body>::Error>>;

impl<B: Body<Data = Bytes>> Recording<B> {
    /// Takes a copy of at most `limit` bytes, which is whole when the body ends, or before that with
    /// the last of the `declared` bytes. If the recording is dropped before its end, the body is
    /// read on for `patience` in the background.
    pub(crate) fn new(
        inner: B,
        limit: usize,
        declared: Option<u64>,
        patience: Duration,
        finish: Finish,
        background: Background,
    ) -> Self
    where
        B: Body<Error: Send> + Send + 'static,
    {
        Self {
            recorder: Some(Box::new(Recorder {
                inner: Box::pin(inner),
                copied: Chunks::default(),
                limit,
                declared,
                patience,
                finish: Some(finish),
                stage: Stage::Copying,
            })),
            background,
            detach: detach::<B>,
        }
    }

    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<FrameResult<B>> {
        // Taken out, so that a body that panics is dropped and not carried on in the background.
        let Some(mut recorder) = self.recorder.take() else {
            return Poll::Ready(None);
        };
        let frame = recorder.poll_frame(context);
        self.recorder = Some(recorder);
        frame
    }

    pub(super) fn is_end_stream(&self) -> bool {
        // Not before the record is made, whatever the inner body knows.
        let recorder = self.recorder.as_ref();
        recorder.is_none_or(|recorder| match recorder.stage {
            Stage::Copying | Stage::Settling(..) => false,
            Stage::Passing => recorder.inner.is_end_stream(),
            Stage::Ended => true,
        })
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let recorder = self.recorder.as_ref();
        recorder.map_or_else(SizeHint::default, |recorder| recorder.inner.size_hint())
    }
}

impl<B: Body<Data = Bytes>> Drop for Recording<B> {
    fn drop(&mut self) {
        let Some(recorder) = self.recorder.take() else {
            return;
        };
        if matches!(recorder.stage, Stage::Copying | Stage::Settling(..)) {
            (self.detach)(recorder, &self.background);
        }
    }
}

/// Reads a body whose client has left to its end.
fn detach<B>(mut recorder: Box<Recorder<B>>, background: &Background)
where
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
{
    trace::detached();
    let background = background.clone();
    let runtime = background.clone();
    runtime.spawn(async move {
        let patience = recorder.patience;
        let read = poll_fn(|context| recorder.poll_to_record(context));
        if background.within(patience, read).await.is_none() {
            recorder.settle(Recorded::TooLong, None, After::Ended);
            poll_fn(|context| recorder.poll_to_record(context)).await;
        }
    });
}

impl<B: Body<Data = Bytes>> Recorder<B> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<FrameResult<B>> {
        loop {
            match &mut self.stage {
                Stage::Copying => {
                    let frame = ready!(self.inner.as_mut().poll_frame(context));
                    let (recorded, after) = match &frame {
                        Some(Ok(next)) => match next.data_ref() {
                            Some(data) if self.copied.len() + data.len() <= self.limit => {
                                self.copied.push(data);
                                if self.missing().is_none_or(|missing| missing > 0) {
                                    return Poll::Ready(frame);
                                }
                                // With this frame the client has it all, and need not wait for the
                                // end; nor does a server ask for it.
                                (self.whole(), After::Passing)
                            }
                            Some(_) => (Recorded::TooLong, After::Passing),
                            // Trailers come last, and with them the end is signalled.
                            None => (self.whole(), After::Ended),
                        },
                        Some(Err(_)) => (Recorded::Broken, After::Ended),
                        None => (self.whole(), After::Ended),
                    };
                    self.settle(recorded, frame, after);
                }
                Stage::Settling(settled, frame, after) => {
                    ready!(settled.as_mut().poll(context));
                    let frame = frame.take();
                    self.stage = match after {
                        After::Passing => Stage::Passing,
                        After::Ended => Stage::Ended,
                    };
                    return Poll::Ready(frame);
                }
                Stage::Passing => return self.inner.as_mut().poll_frame(context),
                Stage::Ended => return Poll::Ready(None),
            }
        }
    }

    /// Reads and drops frames until the record is made.
    fn poll_to_record(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while matches!(self.stage, Stage::Copying | Stage::Settling(..)) {
            ready!(self.poll_frame(context));
        }
        Poll::Ready(())
    }

    /// Returns how many bytes are still to come, if that is declared.
    fn missing(&self) -> Option<u64> {
        let declared = self.declared?;
        Some(declared.saturating_sub(self.copied.len() as u64))
    }

    fn whole(&mut self) -> Recorded {
        if self.missing().is_some_and(|missing| missing > 0) {
            return Recorded::Broken;
        }
        Recorded::Whole(std::mem::take(&mut self.copied).into_vec())
    }

    /// Makes the record, and then goes on with this frame.
    fn settle(&mut self, recorded: Recorded, frame: FrameResult<B>, after: After) {
        self.copied = Chunks::default();
        // Made once: every stage behind this one leads away from here.
        if let Some(finish) = self.finish.take() {
            self.stage = Stage::Settling(finish(recorded), frame, after);
        }
    }
}
