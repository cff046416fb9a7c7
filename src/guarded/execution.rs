//! The one run of a handler for a key: what it finds, and how it is kept.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, response};
use http_body::Body;

use super::guard::Guard;
use super::judgement::declared_length;
use super::lease::Ending;
use super::replay;
use super::transaction::Transaction;
use crate::body::{Recorded, Recorder, RequestBody, ResponseBody, UploadState};
use crate::outcome::{NotKept, Outcome};
use crate::refusal::Refusal;
use crate::runtime::poll_once;
use crate::store::{Begin, Fingerprint, Record, Store, StoreError};
use crate::store_failure::StoreFailure;
use crate::trace;

/// What answers for the handler.
pub(crate) enum Found {
    Refused(Refusal),
    Completed(Record),
}

/// The one run of the handler for a key.
pub(crate) struct Execution<St: Store> {
    pub(crate) guard: Guard<St>,
    pub(crate) origin: Origin,
}

/// What a record needs besides the response.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) upload: UploadState,
    /// How long it is kept.
    pub(crate) ttl: Duration,
    /// The headers that are kept, if they are not all.
    pub(crate) headers: Option<Box<HeaderMap>>,
}

impl<St: Store> Execution<St> {
    /// Claims the key, or returns what is there.
    pub(crate) async fn begin(&mut self) -> Option<Found> {
        let begun = self.guard.begin(self.origin.fingerprint).await;
        self.found(begun)
    }

    /// Says what answers for the handler, if it is not to run.
    pub(super) fn found(&self, begun: Result<Begin, StoreError>) -> Option<Found> {
        let fingerprint = self.origin.fingerprint;
        match begun {
            Ok(Begin::Started) => None,
            Err(error) => match self.guard.config().store_failure {
                // A store that fails must not take the API with it.
                StoreFailure::Open => None,
                StoreFailure::Closed => Some(Found::Refused(Refusal::StoreFailed(error.kind()))),
            },
            Ok(Begin::InProgress(first)) if first == fingerprint => {
                Some(Found::Refused(Refusal::InProgress))
            }
            Ok(Begin::Completed(record)) if record.fingerprint() == fingerprint => {
                Some(Found::Completed(record))
            }
            Ok(Begin::InProgress(_) | Begin::Completed(_)) => {
                Some(Found::Refused(Refusal::KeyReused))
            }
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
        let record = self.record(status, headers, body);
        let outcome = body.map_or(Outcome::KeptWithoutBody, |_| Outcome::Kept);
        (Ending::Complete(record, self.ttl), outcome)
    }

    /// Makes the record of a response.
    pub(crate) fn record(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: Option<&[u8]>,
    ) -> Record {
        let headers = self.headers.as_deref().unwrap_or(headers);
        replay::record(self.fingerprint, status, headers, body)
    }
}

/// Returns how a response that is not kept ends the claim, and what its outcome is.
pub(crate) fn not_kept(why: NotKept) -> (Ending, Outcome) {
    (Ending::Release, Outcome::NotKept(why))
}
