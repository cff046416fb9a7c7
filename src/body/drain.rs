//! Reading an upload that nobody wants, so that its client gets to read the answer.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::Duration;

use bytes::Buf;
use http::header::EXPECT;
use http::{HeaderMap, Request};
use http_body::Body;

use crate::runtime::{Background, poll_once};

/// Reads a request's body and drops it, up to a limit in bytes and in time.
///
/// A server that answers and closes while the client is still sending makes the client's system
/// drop the answer. A client that waits for `100 Continue` (RFC 9110, section 10.1.1) is not
/// sending, and needs no draining.
pub(crate) fn drain<B: Body>(
    request: Request<B>,
    background: &Background,
) -> impl Future<Output = ()> {
    let unwanted = !request.body().is_end_stream() && !expects_continue(request.headers());
    let body = unwanted.then(|| request.into_body());
    async move {
        let Some(body) = body else {
            return;
        };
        let mut read = pin!(read(body));
        if poll_once(read.as_mut()).await.is_pending() {
            // Past the limit, the client gets the answer if it can; the request itself is settled.
            let _ = Box::pin(background.within(MAX_TIME, read)).await;
        }
    }
}

async fn read<B: Body>(body: B) {
    let mut body = pin!(body);
    let mut left = MAX_BYTES;
    while let Some(Ok(frame)) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let read = frame.data_ref().map_or(0, Buf::remaining);
        match left.checked_sub(read) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

fn expects_continue(headers: &HeaderMap) -> bool {
    let expect = headers.get(EXPECT);
    expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

const MAX_BYTES: usize = 16 * 1024 * 1024;
const MAX_TIME: Duration = Duration::from_secs(10);
