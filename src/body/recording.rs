//! Sending a body of unknown size on while it is read ahead of its client and copied.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::ahead::{Ahead, Piece};
use super::chunks::Chunks;
use crate::detached::Counted;
use crate::runtime::Background;

/// What was read of a body when its record is made.
pub(crate) enum Recorded {
    /// All of it.
    Whole(Vec<u8>),
    /// It goes beyond the limit, or its client left and it did not come to an end in time.
    TooLong,
    /// It broke, or ended before its `Content-Length`.
    Broken,
}

/// Reads the handler's body ahead of its client, however slow that is, and takes a copy.
///
/// It reads as far as the limit of the copy. When it is dropped, the client gets the end, or the rest
/// of the body to read by itself.
pub(crate) struct Recorder<B: Body<Data = Bytes>> {
    reader: Reader<B>,
    /// Counts the recorder as detached once its client has left.
    counted: Option<Counted>,
}

impl<B: Body<Data = Bytes>> Recorder<B> {
    /// Takes a copy of at most `limit` bytes, which is whole when the body ends, or before that with
    /// the last of the `declared` bytes.
    pub(crate) fn new(body: B, limit: usize, declared: Option<u64>) -> Self {
        Self {
            reader: Reader {
                body: Some(Box::pin(body)),
                copied: Chunks::default(),
                limit,
                declared,
                ahead: Ahead::new(),
                last: None,
            },
            counted: None,
        }
    }

    /// Returns the body to send.
    pub(crate) fn recording(&self, background: Background) -> Recording<B> {
        Recording {
            ahead: self.reader.ahead.clone(),
            rest: None,
            driver: None,
            background,
            counted: None,
        }
    }

    /// Reads until the record can be made: as long as the client is there, and then for as long as
    /// detached work may take.
    pub(crate) async fn read(&mut self, background: &Background) -> Recorded {
        let ahead = self.reader.ahead.clone();
        let mut read = pin!(self.reader.read());
        let read_or_left = poll_fn(|context| match read.as_mut().poll(context) {
            Poll::Ready(recorded) => Poll::Ready(Ok(recorded)),
            Poll::Pending => ahead.poll_left(context).map(Err),
        });
        match read_or_left.await {
            Ok(recorded) => recorded,
            Err(None) => Recorded::TooLong,
            Err(counted) => {
                self.counted = counted;
                let recorded = background.carry_on(read).await;
                recorded.unwrap_or(Recorded::TooLong)
            }
        }
    }
}

struct Reader<B: Body<Data = Bytes>> {
    /// Goes to the client unless it has ended.
    body: Option<Pin<Box<B>>>,
    copied: Chunks,
    limit: usize,
    /// What `Content-Length` says, where the handler has set it.
    declared: Option<u64>,
    ahead: Ahead<B>,
    /// What the client gets when the record is made, and not before.
    last: Option<Piece<B>>,
}

impl<B: Body<Data = Bytes>> Reader<B> {
    async fn read(&mut self) -> Recorded {
        while let Some(body) = &mut self.body {
            let frame = match next(body).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return self.ended(None),
                Ok(Some(Err(error))) => return self.broken(Piece::Frame(Err(error))),
                Err(panic) => return self.broken(Piece::Panic(panic)),
            };
            let is_at_end = body.is_end_stream();
            let data = match frame.into_data() {
                Ok(data) => data,
                // They come last, and with them the end is signalled.
                Err(trailers) => return self.ended(Some(trailers)),
            };
            if self.copied.len() + data.len() > self.limit {
                self.last = Some(Piece::Frame(Ok(Frame::data(data))));
                return Recorded::TooLong;
            }
            self.copied.push(&data);
            if is_at_end {
                return self.ended(Some(Frame::data(data)));
            }
            if self.missing() == Some(0) {
                // With this frame the client has it all, and need not wait for the end; nor does a
                // server ask for it.
                self.last = Some(Piece::Frame(Ok(Frame::data(data))));
                return self.whole();
            }
            if !data.is_empty() {
                self.ahead.push_data(data);
            }
            // A body that is always ready must not keep its thread from all others.
            tokio::task::consume_budget().await;
        }
        self.ended(None)
    }

    fn ended(&mut self, last: Option<Frame<Bytes>>) -> Recorded {
        self.body = None;
        self.last = last.map(|frame| Piece::Frame(Ok(frame)));
        self.whole()
    }

    fn broken(&mut self, last: Piece<B>) -> Recorded {
        self.body = None;
        self.last = Some(last);
        Recorded::Broken
    }

    /// Returns how many bytes are still to come, if that is declared.
    fn missing(&self) -> Option<u64> {
        let declared = self.declared?;
        Some(declared.saturating_sub(self.copied.len() as u64))
    }

    fn whole(&mut self) -> Recorded {
        let copied = std::mem::take(&mut self.copied);
        match self.declared {
            Some(declared) if (copied.len() as u64) < declared => Recorded::Broken,
            _ => Recorded::Whole(copied.into_vec()),
        }
    }
}

impl<B: Body<Data = Bytes>> Drop for Reader<B> {
    fn drop(&mut self) {
        let rest = self.body.take().map(Piece::Rest);
        self.ahead.end(self.last.take().into_iter().chain(rest));
    }
}

/// Reads the next frame; a panic of the body is its client's to see.
async fn next<B: Body<Data = Bytes>>(
    body: &mut Pin<Box<B>>,
) -> Result<FrameResult<B>, Box<dyn Any + Send>> {
    poll_fn(|context| {
        let body = body.as_mut();
        match catch_unwind(AssertUnwindSafe(|| body.poll_frame(context))) {
            Ok(frame) => frame.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}

/// A body that is read ahead of its client by a [`Recorder`].
///
/// Dropped before its end, it lets the recorder read on without a client.
pub(crate) struct Recording<B: Body<Data = Bytes>> {
    ahead: Ahead<B>,
    rest: Option<Pin<Box<B>>>,
    /// What runs the recorder, where there is no runtime to do so.
    driver: Option<Mutex<Driver>>,
    background: Background,
    /// What the recorder is counted by once this is dropped, where that is known already.
    counted: Option<Counted>,
}

pub(crate) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<B: Body<Data = Bytes>> Recording<B> {
    /// Runs the recorder in a task of its own, or with the body where there is no runtime.
    pub(crate) fn driven_by(mut self, driver: Driver) -> Self {
        if self.background.has_runtime() {
            self.background.spawn(driver);
        } else {
            self.driver = Some(Mutex::new(driver));
        }
        self
    }

    /// Drops the body, and hands the recorder a count that was taken already.
    pub(super) fn leave(mut self, counted: Counted) {
        self.counted = Some(counted);
    }

    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<FrameResult<B>> {
        if let Some(driver) = &mut self.driver {
            let driver = driver.get_mut().unwrap_or_else(PoisonError::into_inner);
            if driver.as_mut().poll(context).is_ready() {
                self.driver = None;
            }
        }
        if let Some(rest) = &mut self.rest {
            return rest.as_mut().poll_frame(context);
        }
        match ready!(self.ahead.poll_next(context)) {
            None => Poll::Ready(None),
            Some(Piece::Frame(frame)) => Poll::Ready(Some(frame)),
            Some(Piece::Rest(rest)) => self.rest.insert(rest).as_mut().poll_frame(context),
            Some(Piece::Panic(panic)) => resume_unwind(panic),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        // Not before the record is made, whatever the inner body knows.
        let rest = self.rest.as_ref();
        self.ahead.is_at_end() && rest.is_none_or(Body::is_end_stream)
    }
}

type FrameResult<B> = Option<Result<Frame<Bytes>, <B as Body>::Error>>;

impl<B: Body<Data = Bytes>> Drop for Recording<B> {
    fn drop(&mut self) {
        if self.driver.is_none() && !self.ahead.has_ended() {
            let counted = self.counted.take();
            self.ahead
                .leave(counted.or_else(|| self.background.leave()));
        }
    }
}
