//! Reading a response body of known size whole, before it is sent.

use std::collections::VecDeque;
use std::future::poll_fn;

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame};

use super::ResponseBody;

/// What came of reading a body.
pub(crate) enum Collected<B: Body<Data = Bytes>> {
    /// It was read to its end; these are its bytes, and the body to send.
    Whole(Bytes, ResponseBody<B>),
    /// It broke, or ended before the size that it declared; so does the body to send.
    Broken(ResponseBody<B>),
    /// It has more bytes than its size hint said; the body to send goes on behind what was read.
    TooLong(ResponseBody<B>),
}

impl<B: Body<Data = Bytes>> Collected<B> {
    /// Tells whether more was read than the body declared.
    pub(crate) fn is_longer_than(&self, declared: u64) -> bool {
        match self {
            Self::Whole(bytes, _) => bytes.len() as u64 > declared,
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
        return Collected::Whole(Bytes::new(), ResponseBody::full(Bytes::new()));
    }
    let size = body.size_hint().exact();
    let mut body = Box::pin(body);
    let mut data = Data::default();
    let mut trailers = None;
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        match frame.map(Frame::into_data) {
            Ok(Ok(bytes)) => data.push(bytes),
            Ok(Err(frame)) => {
                trailers = Some(frame);
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
    }
    let bytes = data.into_bytes();
    let len = bytes.len() as u64;
    if size.is_some_and(|size| len < size) {
        // The server sees that bytes are missing, and tells the client as it would without the layer.
        let frames = VecDeque::from([Ok(Frame::data(bytes))]);
        return Collected::Broken(ResponseBody::buffered(frames, None, size));
    }
    let body = match trailers {
        None => ResponseBody::full(bytes.clone()),
        Some(trailers) => {
            let frames = [Ok(Frame::data(bytes.clone())), Ok(trailers)];
            ResponseBody::buffered(frames.into(), None, Some(len))
        }
    };
    Collected::Whole(bytes, body)
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
