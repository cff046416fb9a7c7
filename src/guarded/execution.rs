//! The one run of a handler for a key: what it finds, and how it is kept.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, response};
use http_body::Body;

use super::guard::Guard;
use super::judgement::declared_length;
use super::lease::Ending;
use super::problem::Problem;
use super::replay;
use super::transaction::Transaction;
use crate::body::{Recorded, Recorder, RequestBody, ResponseBody, UploadState};
use crate::outcome::{NotKept, Outcome};
use crate::runtime::poll_once;
use crate::store::{Begin, Fingerprint, Record, Store};
use crate::trace;

/// What is there under a key already, and answers for the handler.
pub(crate) enum Found {
    InProgress,
    OfAnotherRequest,
    Completed(Record),
}

impl Found {
    pub(crate) fn into_response(self) -> Response<Bytes> {
        match self {
            Self::InProgress => Problem::InProgress.into_response(),
            Self::OfAnotherRequest => Problem::KeyReused.into_response(),
            Self::Completed(record) => replay::replay(&record),
        }
    }
}

/// The one run of the handler for a key.
pub(crate) struct Execution<St: Store> {
    pub(crate) guard: Guard<St>,
    pub(crate) origin: Origin,
}

/// What the request has to say about its record.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) upload: UploadState,
}

impl<St: Store> Execution<St> {
    /// Claims the key, or returns what is there.
    pub(crate) async fn begin(&mut self) -> Option<Found> {
        let fingerprint = self.origin.fingerprint;
        match self.guard.begin(fingerprint).await {
            // A store that fails must not take the API with it, so the handler runs in any case.
            Ok(Begin::Started) | Err(_) => None,
            Ok(Begin::InProgress(first)) if first == fingerprint => Some(Found::InProgress),
            Ok(Begin::Completed(record)) if record.fingerprint() == fingerprint => {
                Some(Found::Completed(record))
            }
            Ok(Begin::InProgress(_) | Begin::Completed(_)) => Some(Found::OfAnotherRequest),
        }
    }

    /// Lets the handler keep its response by itself.
    pub(crate) fn transaction(&mut self) -> Transaction<St> {
        let written = Arc::default();
        let lease = self.guard.share(Arc::clone(&written));
        Transaction::new(lease, self.origin.clone(), written)
    }

    /// Watches whether the upload of the request breaks.
    pub(crate) fn watch<B: Body>(&self, request: Request<B>) -> Request<RequestBody<B>> {
        let content_length = declared_length(request.headers());
        let upload = self.origin.upload.clone();
        request.map(|body| RequestBody::watched(body, content_length, upload))
    }

    /// Sends a body of unknown size on while it is read and copied; the key is settled before its
    /// end.
    pub(crate) async fn record<B2>(
        mut self,
        mut parts: response::Parts,
        body: B2,
    ) -> Response<ResponseBody<B2>>
    where
        B2: Body<Data = Bytes, Error: Send> + Send + 'static,
    {
        let failure = self.guard.failure();
        let background = self.guard.background().clone();
        let mut recorder = Recorder::new(
            body,
            self.guard.config().max_response_bytes,
            declared_length(&parts.headers),
        );
        let recording = recorder.recording(background.clone());
        // What the record is made from; the parts themselves leave now.
        let (status, headers) = (parts.status, parts.headers.clone());
        let mut driver = Box::pin(async move {
            let recorded = {
                let mut read = pin!(recorder.read(self.guard.background()));
                self.guard.during(read.as_mut()).await
            };
            let (ending, outcome) = match recorded {
                Recorded::Whole(bytes) => self.origin.kept(status, &headers, Some(&bytes)),
                Recorded::TooLong => self.origin.kept(status, &headers, None),
                Recorded::Broken => not_kept(NotKept::BrokenBody),
            };
            let outcome = self.guard.settle(ending).await.outcome(outcome);
            // Only now does the client see the end.
            drop(recorder);
            outcome
        });
        // A body that is there already needs no task.
        let (outcome, recording) = match poll_once(driver.as_mut()).await {
            Poll::Ready(outcome) => (outcome, recording),
            Poll::Pending => {
                let outcome = failure.map_or(Outcome::Recording, Outcome::StoreFailed);
                let driver = trace::Span::current().around(async {
                    let _ = driver.await;
                });
                (outcome, recording.driven_by(Box::pin(driver)))
            }
        };
        parts.extensions.insert(outcome);
        Response::from_parts(parts, ResponseBody::recording(recording))
    }
}

impl Origin {
    /// Returns how a response that is kept ends the claim, and what its outcome is.
    pub(crate) fn kept(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: Option<&[u8]>,
    ) -> (Ending, Outcome) {
        if self.upload.is_broken() {
            return not_kept(NotKept::BrokenUpload);
        }
        let record = replay::record(self.fingerprint, status, headers, body);
        let outcome = body.map_or(Outcome::KeptWithoutBody, |_| Outcome::Kept);
        (Ending::Complete(record), outcome)
    }
}

/// Returns how a response that is not kept ends the claim, and what its outcome is.
pub(crate) fn not_kept(why: NotKept) -> (Ending, Outcome) {
    (Ending::Release, Outcome::NotKept(why))
}
