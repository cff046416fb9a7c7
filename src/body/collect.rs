//! Reading a response body of known size whole, before it is sent.

use std::collections::VecDeque;
use std::future::poll_fn;

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
    let mut whole = Whole {
        data: Bytes::new(),
        trailers: None,
    };
    if body.is_end_stream() {
        return Collected::Whole(whole);
    }
    let size = body.size_hint().exact();
    let mut body = Box::pin(body);
    let mut data = Data::default();
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        match frame.map(Frame::into_data) {
            Ok(Ok(bytes)) => data.push(bytes),
            Ok(Err(frame)) => {
                whole.trailers = Some(frame);
                break;
            }
            Err(error) => {
                let frames = [Ok(Frame::data(data.into_bytes())), Err(error)];
                return Collected::Broken(ResponseBody::buffered(frames.into(), None, size));
            }
        }
        if data.len() > limit {
            let frames = VecDeque::from([Ok(Frame::data(data.into_bytes()))]);
            return Collected::TooLong(ResponseBody::buffered(frames, Some(body), None));
        }
        if body.is_end_stream() {
            break;
        }
        // A body that is always ready must not keep its thread from all others.
        tokio::task::consume_budget().await;
    }
    whole.data = data.into_bytes();
    if size.is_some_and(|size| (whole.data.len() as u64) < size) {
        // The server sees that bytes are missing, and breaks off, as it would without the layer.
        let frames = VecDeque::from([Ok(Frame::data(whole.data))]);
        return Collected::Broken(ResponseBody::buffered(frames, None, size));
    }
    Collected::Whole(whole)
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
