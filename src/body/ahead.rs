//! What was read of a body ahead of its client, between whoever reads it and whoever sends it.

use std::any::Any;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame};

use crate::detached::Counted;

/// A queue with two ends: the recorder puts pieces of a body in, and the client takes them out.
///
/// It is bounded by the recorder, which reads no more ahead than it copies.
pub(super) struct Ahead<B: Body<Data = Bytes>>(Arc<Mutex<Queue<B>>>);

struct Queue<B: Body<Data = Bytes>> {
    pieces: VecDeque<Piece<B>>,
    /// Data beyond [`PIECES`], in one piece: small frames take more room than they hold.
    late: BytesMut,
    has_ended: bool,
    /// What was said when the client left: see [`Background::leave`].
    ///
    /// [`Background::leave`]: crate::runtime::Background::leave
    left: Option<Option<Counted>>,
    client: Option<Waker>,
    recorder: Option<Waker>,
}

/// A piece of a body.
pub(super) enum Piece<B: Body<Data = Bytes>> {
    Frame(Result<Frame<Bytes>, B::Error>),
    /// The body itself, of which the client reads the rest.
    Rest(Pin<Box<B>>),
    /// The body panicked with this, and so does whoever reads it.
    Panic(Box<dyn Any + Send>),
}

impl<B: Body<Data = Bytes>> Ahead<B> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Queue {
            pieces: VecDeque::new(),
            late: BytesMut::new(),
            has_ended: false,
            left: None,
            client: None,
            recorder: None,
        })))
    }

    pub(super) fn push_data(&self, data: Bytes) {
        let mut queue = self.lock();
        if queue.late.is_empty() && queue.pieces.len() < PIECES {
            queue.pieces.push_back(Piece::Frame(Ok(Frame::data(data))));
        } else {
            queue.late.put(data);
        }
        let client = queue.client.take();
        drop(queue);
        wake(client);
    }

    /// Puts the last pieces in, after which the body has ended.
    pub(super) fn end(&self, pieces: impl IntoIterator<Item = Piece<B>>) {
        let mut queue = self.lock();
        if let Some(late) = queue.take_late() {
            queue.pieces.push_back(late);
        }
        queue.pieces.extend(pieces);
        queue.has_ended = true;
        let client = queue.client.take();
        drop(queue);
        wake(client);
    }

    /// Takes the next piece out.
    pub(super) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Piece<B>>> {
        let mut queue = self.lock();
        if let Some(piece) = queue.pieces.pop_front() {
            return Poll::Ready(Some(piece));
        }
        if let Some(late) = queue.take_late() {
            return Poll::Ready(Some(late));
        }
        if queue.has_ended {
            return Poll::Ready(None);
        }
        let before = queue.client.replace(context.waker().clone());
        drop(queue);
        drop(before);
        Poll::Pending
    }

    /// Returns whether all pieces have been taken out.
    pub(super) fn is_at_end(&self) -> bool {
        let queue = self.lock();
        queue.has_ended && queue.pieces.is_empty()
    }

    /// Returns whether all pieces have been put in.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().has_ended
    }

    /// Lets the recorder know that the client has left.
    pub(super) fn leave(&self, counted: Option<Counted>) {
        let mut queue = self.lock();
        queue.left = Some(counted);
        let recorder = queue.recorder.take();
        drop(queue);
        wake(recorder);
    }

    /// Is ready when the client has left.
    pub(super) fn poll_left(&self, context: &mut Context<'_>) -> Poll<Option<Counted>> {
        let mut queue = self.lock();
        if let Some(left) = queue.left.take() {
            return Poll::Ready(left);
        }
        let before = queue.recorder.replace(context.waker().clone());
        drop(queue);
        drop(before);
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Queue<B>> {
        // Nothing that holds this lock can leave the queue half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Body<Data = Bytes>> Queue<B> {
    fn take_late(&mut self) -> Option<Piece<B>> {
        let late = self.late.split().freeze();
        (!late.is_empty()).then(|| Piece::Frame(Ok(Frame::data(late))))
    }
}

/// Wakes whoever waits. Not under the lock of the queue: a waker may read on at once, and to drop one may
/// be to drop a task with the body in it.
fn wake(waiting: Option<Waker>) {
    if let Some(waker) = waiting {
        waker.wake();
    }
}

impl<B: Body<Data = Bytes>> Clone for Ahead<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// How many frames wait for the client one by one.
const PIECES: usize = 1024;
