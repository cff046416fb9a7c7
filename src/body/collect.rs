//! Reading a response body of known size whole, before it is sent.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame};

use super::ResponseBody;

/// What came of reading a body.
pub(crate) enum Collected<B: Body<Data = Bytes>> {
    /// It was read to its end.
    Whole(Whole),
    /// It broke, or ended before the size that it declared; so does the body to send.
    Broken(ResponseBody<B>),
    /// It has more bytes than its size hint said; the body to send goes on behind what was read.
    TooLong(ResponseBody<B>),
}

/// A body that was read to its end.
pub(crate) struct Whole {
    pub(crate) data: Bytes,
    trailers: Option<Frame<Bytes>>,
}

impl Whole {
    /// Makes the body to send.
    pub(crate) fn into_body<B: Body<Data = Bytes>>(self) -> ResponseBody<B> {
        let Some(trailers) = self.trailers else {
            return ResponseBody::full(self.data);
        };
        let size = self.data.len() as u64;
        let frames = [Ok(Frame::data(self.data)), Ok(trailers)];
        ResponseBody::buffered(frames.into(), None, Some(size))
    }
}

impl<B: Body<Data = Bytes>> Collected<B> {
    /// Returns whether more was read than the body declared.
    pub(crate) fn is_longer_than(&self, declared: u64) -> bool {
        match self {
            Self::Whole(whole) => whole.data.len() as u64 > declared,
            Self::TooLong(_) => true,
            Self::Broken(_) => false,
        }
    }
}

/// Reads a body that says that it has at most `limit` bytes.
pub(crate) async fn collect<B>(body: B, limit: usize) -> Collected<B>
where
    B: Body<Data = Bytes>,
{
    if body.is_end_stream() {
        return Collected::Whole(Whole {
            data: Bytes::new(),
            trailers: None,
        });
    }
    let size = body.size_hint().exact();
    let mut body = Box::pin(body);
    let Read { data, end } = read(body.as_mut(), limit).await;
    match end {
        End::Whole(trailers) => Collected::Whole(Whole { data, trailers }),
        End::TooLong => {
            let frames = VecDeque::from([Ok(Frame::data(data))]);
            Collected::TooLong(ResponseBody::buffered(frames, Some(body), None))
        }
        // Where bytes are missing, the server sees that and breaks off, as it would without the
        // layer.
        End::Broken(error) => {
            let mut frames = VecDeque::from([Ok(Frame::data(data))]);
            frames.extend(error.map(Err));
            Collected::Broken(ResponseBody::buffered(frames, None, size))
        }
    }
}

/// What was read of a body, and why reading has ended.
pub(crate) struct Read<E> {
    pub(crate) data: Bytes,
    pub(crate) end: End<E>,
}

/// Why reading a body has ended.
pub(crate) enum End<E> {
    /// The body has ended, perhaps with trailers.
    Whole(Option<Frame<Bytes>>),
    /// The body broke, by an error or by ending before the size that it declared.
    Broken(Option<E>),
    /// What was read is over the limit.
    TooLong,
}

/// Reads a body to its end, or until it is longer than `limit` bytes.
pub(crate) async fn read<B>(mut body: Pin<&mut B>, limit: usize) -> Read<B::Error>
where
    B: Body<Data = Bytes>,
{
    let size = body.size_hint().exact();
    let mut data = Data::default();
    let mut end = End::Whole(None);
    // Some bodies are not to be polled after their end.
    while !body.is_end_stream() {
        let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await else {
            break;
        };
        match frame.map(Frame::into_data) {
            Ok(Ok(bytes)) => data.push(bytes),
            Ok(Err(trailers)) => {
                end = End::Whole(Some(trailers));
                break;
            }
            Err(error) => {
                end = End::Broken(Some(error));
                break;
            }
        }
        if data.len() > limit {
            end = End::TooLong;
            break;
        }
        // A body that is always ready must not keep its thread from all others.
        tokio::task::consume_budget().await;
    }
    let data = data.into_bytes();
    let is_short = size.is_some_and(|size| (data.len() as u64) < size);
    if is_short && matches!(end, End::Whole(_)) {
        end = End::Broken(None);
    }
    Read { data, end }
}

/// The data of some frames; a single one is not copied.
#[derive(Default)]
struct Data {
    first: Bytes,
    all: Option<BytesMut>,
}

impl Data {
    fn push(&mut self, bytes: Bytes) {
        if let Some(all) = &mut self.all {
            all.put(bytes);
        } else if self.first.is_empty() {
            self.first = bytes;
        } else {
            let mut all = BytesMut::from(&self.first[..]);
            all.put(bytes);
            self.all = Some(all);
        }
    }

    fn len(&self) -> usize {
        self.all.as_ref().map_or(self.first.len(), BytesMut::len)
    }

    fn into_bytes(self) -> Bytes {
        self.all.map_or(self.first, BytesMut::freeze)
    }
}
