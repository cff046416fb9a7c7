//! What happens to a request that has a key and a caller, from top to bottom.

mod guard;
mod lease;
pub(crate) mod problem;
mod replay;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Request, Response, StatusCode, response};
use http_body::{Body, SizeHint};
use tower_service::Service;

use self::guard::Guard;
use self::lease::Ending;
use self::problem::Problem;
use crate::body::{
    Collected, Recorded, Recorder, RequestBody, ResponseBody, UploadState, collect, drain,
};
use crate::config::Setup;
use crate::future::{Begun, Detachable};
use crate::keep::DoNotKeep;
use crate::key::IdempotencyKey;
use crate::outcome::{NotKept, Outcome};
use crate::runtime::{Background, poll_once};
use crate::store::{Begin, Fingerprint, Record, RecordKey, Store};
use crate::trace;

/// In the extensions of a request, says that a layer answers for it: another one further in lets it
/// pass.
#[derive(Clone, Copy)]
pub(crate) struct Guarded;

/// Claims the key, and then replays, refuses, or runs the handler.
///
/// Dropped before the handler runs, it gives the claim up and nothing goes on.
// A block and not an `async fn`, which would hold each of its arguments twice: what is boxed here
// must be small for the allocator to be fast.
pub(crate) fn begin<S, St, B, B2>(
    setup: Arc<Setup<St>>,
    background: Background,
    ready: S,
    record_key: RecordKey,
    key: IdempotencyKey,
    mut request: Request<B>,
) -> impl Future<Output = Begun<Result<Response<ResponseBody<B2>>, S::Error>>>
where
    S: Service<Request<RequestBody<B>>, Response = Response<B2>> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    St: Store,
    B: Body<Data: Send, Error: Send> + Send + 'static,
    B2: Body<Data = Bytes, Error: Send> + Send + 'static,
{
    let mut execution = Execution {
        fingerprint: Fingerprint::new(request.method(), request.uri()),
        guard: Guard::new(setup, background, record_key),
        upload: UploadState::default(),
    };
    async move {
        let background = execution.guard.background().clone();
        if let Some(found) = execution.begin().await {
            // The service is not called, and so must give back what it has reserved to be ready.
            drop(ready);
            drain(
                request,
                &background,
                execution.guard.config().drain_limits(),
            );
            return Begun::Answered(Ok(found.into_response().map(ResponseBody::full)));
        }
        request.extensions_mut().insert(Guarded);
        request.extensions_mut().insert(key);
        Begun::Running(Detachable::new(run(execution, ready, request), background))
    }
}

/// Runs the handler and keeps its response.
async fn run<S, St, B, B2>(
    mut execution: Execution<St>,
    mut ready: S,
    request: Request<B>,
) -> Result<Response<ResponseBody<B2>>, S::Error>
where
    S: Service<Request<RequestBody<B>>, Response = Response<B2>>,
    St: Store,
    B: Body,
    B2: Body<Data = Bytes, Error: Send> + Send + 'static,
{
    let response = {
        let content_length = declared_length(request.headers());
        let upload = execution.upload.clone();
        let request = request.map(|body| RequestBody::watched(body, content_length, upload));
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
    let ((ending, outcome), body) = match execution.judge(&parts, &body) {
        Judgement::RulePanicked => {
            // Nobody can say whether it is to be kept, and freeing the key would invite another
            // run.
            execution.guard.abandon();
            let outcome = Outcome::NotKept(NotKept::RulePanicked);
            parts.extensions.insert(outcome);
            return Ok(Response::from_parts(parts, ResponseBody::passing(body)));
        }
        Judgement::NotKept(why) => (not_kept(why), ResponseBody::passing(body)),
        Judgement::WithoutContent => {
            let kept = execution.kept(parts.status, &parts.headers, Some(&[]));
            (kept, ResponseBody::passing(body))
        }
        Judgement::TooLong => {
            let kept = execution.kept(parts.status, &parts.headers, None);
            (kept, ResponseBody::passing(body))
        }
        Judgement::OfUnknownSize => return Ok(execution.record(parts, body).await),
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
    /// The rule panicked, and so nobody knows.
    RulePanicked,
    /// Its status is one of those that have no body.
    WithoutContent,
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

    fn judge<B2: Body>(&self, parts: &response::Parts, body: &B2) -> Judgement {
        let why_not = catch_unwind(AssertUnwindSafe(|| self.why_not_kept(parts)));
        match why_not {
            Err(_) => {
                trace::rule_panicked(self.guard.key());
                return Judgement::RulePanicked;
            }
            Ok(Some(why)) => return Judgement::NotKept(why),
            Ok(None) => {}
        }
        if matches!(
            parts.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        ) {
            // RFC 9110, section 6.4.1: no server sends a body with these, nor reads it.
            return Judgement::WithoutContent;
        }
        let size = size_of(body);
        let declared = declared_length(&parts.headers);
        if size.lower().max(declared.unwrap_or(0)) > self.limit() as u64 {
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

    /// Sends a body of unknown size on while it is read and copied; the key is settled before its
    /// end.
    async fn record<B2>(
        mut self,
        mut parts: response::Parts,
        body: B2,
    ) -> Response<ResponseBody<B2>>
    where
        B2: Body<Data = Bytes, Error: Send> + Send + 'static,
    {
        let failure = self.guard.failure();
        let background = self.guard.background().clone();
        let mut recorder = Recorder::new(body, self.limit(), declared_length(&parts.headers));
        let recording = recorder.recording(background.clone());
        // What the record is made from; the parts themselves leave now.
        let (status, headers) = (parts.status, parts.headers.clone());
        let mut driver = Box::pin(async move {
            let recorded = {
                let mut read = pin!(recorder.read(self.guard.background()));
                self.guard.during(read.as_mut()).await
            };
            let (ending, outcome) = match recorded {
                Recorded::Whole(bytes) => self.kept(status, &headers, Some(&bytes)),
                Recorded::TooLong => self.kept(status, &headers, None),
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

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
