//! The request body that the handler reads.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// A request body that passes frames on unchanged and remembers whether it broke.
    ///
    /// The service inside the layer receives `Request<RequestBody<B>>`. When the connection tears
    /// in the middle of an upload, the handler's answer to that (a 400, mostly) goes out but is not
    /// kept, or every retry would get it for as long as records are kept. An upload has broken when
    /// it ends in an error, or before its declared length: a reset of an HTTP/2 stream may look like
    /// an end.
    ///
    /// Its `Debug` form does not show the inner body, which may hold the whole upload.
    pub struct RequestBody<B> {
        #[pin]
        inner: B,
        upload: Option<UploadState>,
        // How many bytes are still to come, where the request has declared that.
        missing: Option<u64>,
    }
}

impl<B> RequestBody<B> {
    /// Wraps the body of a request that is not guarded.
    pub(crate) fn passing(inner: B) -> Self {
        Self {
            inner,
            upload: None,
            missing: None,
        }
    }
}

impl<B: Body> RequestBody<B> {
    /// Wraps the body of a request whose response may be kept.
    ///
    /// What the body itself declares counts for more than the `Content-Length` of the request, which
    /// may speak of what another middleware has decoded.
    pub(crate) fn watched(inner: B, content_length: Option<u64>, upload: UploadState) -> Self {
        let missing = inner.size_hint().exact().or(content_length);
        Self {
            inner,
            upload: Some(upload),
            missing,
        }
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(context));
        let Some(upload) = this.upload else {
            return Poll::Ready(frame);
        };
        let has_ended = match &frame {
            Some(Ok(frame)) => {
                if let (Some(missing), Some(data)) = (this.missing.as_mut(), frame.data_ref()) {
                    *missing = missing.saturating_sub(data.remaining() as u64);
                }
                this.inner.is_end_stream()
            }
            Some(Err(_)) => {
                upload.has_broken();
                return Poll::Ready(frame);
            }
            None => true,
        };
        if has_ended && this.missing.is_some_and(|missing| missing > 0) {
            upload.has_broken();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let has_ended = self.inner.is_end_stream();
        // A handler that sees the end here does not ask for another frame.
        if let (true, Some(upload), Some(1..)) = (has_ended, &self.upload, self.missing) {
            upload.has_broken();
        }
        has_ended
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody")
            .field("upload", &self.upload)
            .finish_non_exhaustive()
    }
}

/// Whether a request's body broke, shared between the body and whoever decides what is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct UploadState {
    broken: Arc<AtomicBool>,
}

impl UploadState {
    fn has_broken(&self) {
        self.broken.store(true, Ordering::Release);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_show_the_upload() {
        let body = RequestBody::watched("card=4242".to_owned(), None, UploadState::default());
        let shown = format!("{body:?}");
        assert!(
            shown.contains("broken: false") && !shown.contains("4242"),
            "{shown}"
        );
    }
}
