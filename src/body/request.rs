//! The request body that the handler reads.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// A request body that passes frames on unchanged and remembers whether it broke.
    ///
    /// The service inside the layer receives `Request<RequestBody<B>>`. When the connection tears
    /// in the middle of an upload, the handler's answer to that (a 400, mostly) goes out but is not
    /// kept, or every retry would get it for as long as records are kept.
    ///
    /// Its `Debug` form does not show the inner body, which may hold the whole upload.
    pub struct RequestBody<B> {
        #[pin]
        inner: B,
        upload: Option<UploadState>,
    }
}

impl<B> RequestBody<B> {
    /// Wraps the body of a request that is not guarded.
    pub(crate) fn passing(inner: B) -> Self {
        Self {
            inner,
            upload: None,
        }
    }

    /// Wraps the body of a request whose response may be kept.
    pub(crate) fn watched(inner: B, upload: UploadState) -> Self {
        Self {
            inner,
            upload: Some(upload),
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
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(context));
        if let (Some(Err(_)), Some(upload)) = (&frame, this.upload) {
            upload.broken.store(true, Ordering::Release);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
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
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_show_the_upload() {
        let body = RequestBody::watched("card=4242".to_owned(), UploadState::default());
        let shown = format!("{body:?}");
        assert!(
            shown.contains("broken: false") && !shown.contains("4242"),
            "{shown}"
        );
    }
}
