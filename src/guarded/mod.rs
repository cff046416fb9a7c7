//! What happens to a request that has a key and a caller, from top to bottom.

mod guard;
mod lease;
pub(crate) mod problem;
mod replay;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Request, Response, StatusCode, response};
use http_body::{Body, SizeHint};
use tower_service::Service;

use self::guard::Guard;
use self::lease::Ending;
use self::problem::Problem;
use crate::body::{Collected, Finished, Recorded, Recording, UploadState, collect, drain};
use crate::body::{RequestBody, ResponseBody};
use crate::config::Setup;
use crate::keep::DoNotKeep;
use crate::key::IdempotencyKey;
use crate::outcome::NotKept;
use crate::outcome::Outcome;
use crate::runtime::Background;
use crate::store::{Begin, Fingerprint, Record, RecordKey, Store};

/// Replays, refuses, or runs the handler and keeps its response.
// A block and not an `async fn`, which would hold each of its arguments twice: what is boxed here
// must be small for the allocator to be fast.
pub(crate) fn run<S, St, B, B2>(
    setup: Arc<Setup<St>>,
    background: Background,
    mut ready: S,
    record_key: RecordKey,
    key: IdempotencyKey,
    mut request: Request<B>,
) -> impl Future<Output = Result<Response<ResponseBody<B2>>, S::Error>>
where
    S: Service<Request<RequestBody<B>>, Response = Response<B2>>,
    St: Store,
    B: Body,
    B2: Body<Data = Bytes, Error: Send> + Send + 'static,
{
    let fingerprint = Fingerprint::new(request.method(), request.uri());
    let mut execution = Execution {
        guard: Guard::new(setup, background, record_key),
        fingerprint,
        upload: UploadState::default(),
    };
    async move {
        if let Some(found) = execution.begin().await {
            // The service is not called, and so must give back what it has reserved to be ready.
            drop(ready);
            drain(request, execution.guard.background()).await;
            return Ok(found.into_response().map(ResponseBody::full));
        }
        let response = {
            request.extensions_mut().insert(key);
            let upload = execution.upload.clone();
            let request = request.map(|body| RequestBody::watched(body, upload));
            let mut response = pin!(ready.call(request));
            execution.guard.during(response.as_mut()).await
        };
        let (mut parts, body) = match response {
            Ok(response) => response.into_parts(),
            Err(error) => {
                // Whatever comes of it, the error is the handler's.
                let _ = execution.guard.settle(Ending::Release).await;
                return Err(error);
            }
        };
        replay::remove_markers(&mut parts);
        let ((ending, outcome), body) = match execution.judge(&parts, size_of(&body)) {
            Judgement::NotKept(why) => (not_kept(why), ResponseBody::passing(body)),
            Judgement::TooLong => {
                let kept = execution.kept(parts.status, &parts.headers, None);
                (kept, ResponseBody::passing(body))
            }
            Judgement::OfUnknownSize => return Ok(execution.record(parts, body)),
            Judgement::OfSize(size) => {
                let collected = {
                    let mut collected = pin!(collect(body, execution.limit()));
                    execution.guard.during(collected.as_mut()).await
                };
                if collected.is_longer_than(size) {
                    // The whole body is sent, which a server would otherwise cut at this length.
                    parts.headers.remove(CONTENT_LENGTH);
                }
                match collected {
                    Collected::Whole(whole) => {
                        let data = Some(&whole.data[..]);
                        let kept = execution.kept(parts.status, &parts.headers, data);
                        (kept, whole.into_body())
                    }
                    Collected::TooLong(body) => {
                        (execution.kept(parts.status, &parts.headers, None), body)
                    }
                    Collected::Broken(body) => (not_kept(NotKept::BrokenBody), body),
                }
            }
        };
        // The key is settled before the response leaves, so that the client can rely on either.
        let settled = execution.guard.settle(ending).await;
        parts.extensions.insert(settled.outcome(outcome));
        Ok(Response::from_parts(parts, body))
    }
}

/// What is there under a key already, and answers for the handler.
enum Found {
    InProgress,
    OfAnotherRequest,
    Completed(Record),
}

impl Found {
    fn into_response(self) -> Response<Bytes> {
        match self {
            Self::InProgress => Problem::InProgress.into_response(),
            Self::OfAnotherRequest => Problem::KeyReused.into_response(),
            Self::Completed(record) => replay::replay(&record),
        }
    }
}

/// The one run of the handler for a key.
struct Execution<St: Store> {
    guard: Guard<St>,
    fingerprint: Fingerprint,
    upload: UploadState,
}

/// What is to become of a response, as far as its head tells.
enum Judgement {
    NotKept(NotKept),
    /// Its body is over the limit.
    TooLong,
    /// Its body has this size, and is read whole before it is sent.
    OfSize(u64),
    /// Its body is copied while it is sent.
    OfUnknownSize,
}

impl<St: Store> Execution<St> {
    /// Claims the key, or returns what is there.
    async fn begin(&mut self) -> Option<Found> {
        match self.guard.begin(self.fingerprint).await {
            // A store that fails must not take the API with it, so the handler runs in any case.
            Ok(Begin::Started) | Err(_) => None,
            Ok(Begin::InProgress(first)) if first == self.fingerprint => Some(Found::InProgress),
            Ok(Begin::Completed(record)) if record.fingerprint() == self.fingerprint => {
                Some(Found::Completed(record))
            }
            Ok(Begin::InProgress(_) | Begin::Completed(_)) => Some(Found::OfAnotherRequest),
        }
    }

    fn judge(&self, parts: &response::Parts, size: SizeHint) -> Judgement {
        if let Some(why) = self.why_not_kept(parts) {
            Judgement::NotKept(why)
        } else if size.lower() > self.limit() as u64 {
            Judgement::TooLong
        } else {
            size.exact()
                .map_or(Judgement::OfUnknownSize, Judgement::OfSize)
        }
    }

    fn limit(&self) -> usize {
        self.guard.config().max_response_bytes
    }

    /// Names the reason against keeping a response, if there is one.
    fn why_not_kept(&self, parts: &response::Parts) -> Option<NotKept> {
        if !self.guard.may_be_held() {
            // The store has refused the claim, which is what the outcome will tell.
            Some(NotKept::LeaseLost)
        } else if self.upload.is_broken() {
            Some(NotKept::BrokenUpload)
        } else if parts.extensions.get::<DoNotKeep>().is_some() {
            Some(NotKept::DoNotKeep)
        } else if parts.status.is_informational() || !(self.guard.config().keep_if)(parts) {
            Some(NotKept::Rule)
        } else {
            None
        }
    }

    /// Returns how a response that is kept ends the claim, and what to tell of it.
    fn kept(
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

    /// Sends a body of unknown size on while it is copied; the key is settled before its end.
    fn record<B2>(mut self, mut parts: response::Parts, body: B2) -> Response<ResponseBody<B2>>
    where
        B2: Body<Data = Bytes, Error: Send> + Send + 'static,
    {
        let limit = self.limit();
        let declared = parts.headers.get(CONTENT_LENGTH);
        let declared = declared.and_then(|value| value.to_str().ok()?.parse().ok());
        let patience = self.guard.config().lease;
        let background = self.guard.background().clone();
        let failure = self.guard.failure();
        let outcome = failure.map_or(Outcome::Recording, Outcome::StoreFailed);

        // What the record is made from; the parts themselves leave now.
        let (status, headers) = (parts.status, parts.headers.clone());
        let renewal = self.guard.keep_in_background();
        let finish = move |recorded| -> Finished {
            Box::pin(async move {
                let _renewal = renewal;
                let (ending, _) = match recorded {
                    Recorded::Whole(bytes) => self.kept(status, &headers, Some(&bytes)),
                    Recorded::TooLong => self.kept(status, &headers, None),
                    Recorded::Broken => not_kept(NotKept::BrokenBody),
                };
                // The head has left, so there is nobody to tell what came of it.
                let _ = self.guard.settle(ending).await;
            })
        };
        let finish = Box::new(finish);
        let recording = Recording::new(body, limit, declared, patience, finish, background);
        parts.extensions.insert(outcome);
        Response::from_parts(parts, ResponseBody::recording(recording))
    }
}

/// Returns what is known of a body's size.
fn size_of<B: Body>(body: &B) -> SizeHint {
    if body.is_end_stream() {
        // One that has ended need not say so by its size.
        SizeHint::with_exact(0)
    } else {
        body.size_hint()
    }
}

/// Returns how a response that is not kept ends the claim, and what to tell of it.
fn not_kept(why: NotKept) -> (Ending, Outcome) {
    (Ending::Release, Outcome::NotKept(why))
}
