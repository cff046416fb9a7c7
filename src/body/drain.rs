//! Reading an upload that nobody wants, so that its client gets to read the answer.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::Buf;
use http::header::EXPECT;
use http::{HeaderMap, Request};
use http_body::Body;

use crate::runtime::Background;

/// How much is read of an upload that nobody wants.
#[derive(Clone, Copy)]
pub(crate) struct DrainLimits {
    pub(crate) bytes: usize,
    /// How long the upload may pause.
    pub(crate) pause: Duration,
}

/// Reads a request's body behind its answer and drops it, up to the limits.
///
/// A server that answers and closes while the client is still sending makes the client's system
/// drop the answer. A client that waits for `100 Continue` (RFC 9110, section 10.1.1) is not
/// sending, and needs no draining.
pub(crate) fn drain<B>(request: Request<B>, background: &Background, limits: DrainLimits)
where
    B: Body<Data: Send, Error: Send> + Send + 'static,
{
    if request.body().is_end_stream() || expects_continue(request.headers()) {
        return;
    }
    let read = read(request.into_body(), background.clone(), limits);
    // What has arrived is read at once, and so most uploads need no task.
    background.run(read);
}

async fn read<B: Body>(body: B, background: Background, limits: DrainLimits) {
    let mut body = pin!(body);
    let mut left = limits.bytes;
    loop {
        let frame = poll_fn(|context| body.as_mut().poll_frame(context));
        let Some(Some(Ok(frame))) = background.within(limits.pause, frame).await else {
            return;
        };
        // An empty frame counts as well, so that there can't be endless ones.
        let read = frame.data_ref().map_or(0, Buf::remaining).max(1);
        match left.checked_sub(read) {
            Some(rest) => left = rest,
            None => return,
        }
        tokio::task::consume_budget().await;
    }
}

fn expects_continue(headers: &HeaderMap) -> bool {
    let expect = headers.get(EXPECT);
    expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
