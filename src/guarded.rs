//! What happens to a request that has a key and a caller, from top to bottom.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Request, Response, response};
use http_body::Body;
use tower_service::Service;

use crate::background::Background;
use crate::body::{Collected, Finished, Recorded, UploadState, collect, drain};
use crate::lease::{Ending, Lease, Settled};
use crate::outcome::NotKept;
use crate::problem::Problem;
use crate::setup::Setup;
use crate::snapshot;
use crate::store::{Begin, Fingerprint, RecordKey, Store};
use crate::{DoNotStore, Outcome, RequestBody, ResponseBody};

/// Replays, refuses, or runs the handler and keeps its response.
pub(crate) async fn run<S, St, B, B2>(
    setup: Arc<Setup<St>>,
    background: Background,
    ready: S,
    key: RecordKey,
    request: Request<B>,
) -> Result<Response<ResponseBody<B2>>, S::Error>
where
    S: Service<Request<RequestBody<B>>, Response = Response<B2>>,
    St: Store,
    B: Body,
    B2: Body<Data = Bytes, Error: Send> + Send + 'static,
{
    let fingerprint = Fingerprint::new(request.method(), request.uri());
    let mut lease = Lease::new(Arc::clone(&setup), background.clone(), key);
    let answer = match lease.begin(fingerprint).await {
        // A store that fails must not take the API with it, so the handler runs in any case.
        Ok(Begin::Started) | Err(_) => {
            let upload = UploadState::default();
            let execution = Execution {
                setup,
                background,
                lease,
                fingerprint,
                upload,
            };
            return execution.run(ready, request).await;
        }
        Ok(Begin::InProgress(first)) if first == fingerprint => Problem::InProgress.into_response(),
        Ok(Begin::Completed(record)) if record.fingerprint() == fingerprint => {
            snapshot::replay(&record)
        }
        Ok(Begin::InProgress(_) | Begin::Completed(_)) => Problem::Mismatch.into_response(),
    };
    // The service is not called, and so must give back what it has reserved to be ready.
    drop(ready);
    let (parts, body) = request.into_parts();
    drain(body, &parts.headers, &background).await;
    Ok(answer.map(ResponseBody::full))
}

/// The one run of the handler for a key.
struct Execution<St: Store> {
    setup: Arc<Setup<St>>,
    background: Background,
    lease: Lease<St>,
    fingerprint: Fingerprint,
    upload: UploadState,
}

/// What the handler gave, as far as it must be read before it is decided upon.
enum Received<B: Body<Data = Bytes>> {
    /// There is no claim, and so nothing to keep it under.
    Unclaimed(B),
    NotKept(NotKept, B),
    TooLong(B),
    Collected(Collected<B>),
    OfUnknownSize(B),
}

impl<St: Store> Execution<St> {
    async fn run<S, B, B2>(
        self,
        mut ready: S,
        request: Request<B>,
    ) -> Result<Response<ResponseBody<B2>>, S::Error>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<B2>>,
        B: Body,
        B2: Body<Data = Bytes, Error: Send> + Send + 'static,
    {
        let request = request.map(|body| RequestBody::watched(body, self.upload.clone()));
        let handled = async {
            let (mut parts, body) = ready.call(request).await?.into_parts();
            snapshot::remove_markers(&mut parts);
            let received = self.receive(&mut parts, body).await;
            Ok((parts, received))
        };
        match self.lease.during(handled).await {
            Ok((parts, received)) => Ok(self.keep(parts, received).await),
            Err(error) => {
                // Whatever came of it, the error is the handler's.
                let _ = self.lease.settle(Ending::Release).await;
                Err(error)
            }
        }
    }

    /// Decides by the head what becomes of a response, and reads the body where that is to be kept
    /// before it is sent.
    async fn receive<B2>(&self, parts: &mut response::Parts, body: B2) -> Received<B2>
    where
        B2: Body<Data = Bytes>,
    {
        if !self.lease.may_be_held() {
            return Received::Unclaimed(body);
        }
        if let Some(why) = self.why_not_kept(parts) {
            return Received::NotKept(why, body);
        }
        let limit = self.setup.config.max_response_bytes;
        let size = body.size_hint();
        if size.lower() > limit as u64 {
            Received::TooLong(body)
        } else if let Some(size) = size.exact() {
            let collected = collect(body, limit).await;
            if collected.is_longer_than(size) {
                // The whole body is sent, which a server would otherwise cut at this length.
                parts.headers.remove(CONTENT_LENGTH);
            }
            Received::Collected(collected)
        } else {
            Received::OfUnknownSize(body)
        }
    }

    /// Names the reason against keeping a response, if there is one.
    fn why_not_kept(&self, parts: &response::Parts) -> Option<NotKept> {
        if self.upload.is_broken() {
            Some(NotKept::BrokenUpload)
        } else if parts.extensions.get::<DoNotStore>().is_some() {
            Some(NotKept::DoNotStore)
        } else if parts.status.is_informational() || !(self.setup.config.store_if)(parts) {
            Some(NotKept::Rule)
        } else {
            None
        }
    }

    /// Settles the key, and makes the response that goes out.
    async fn keep<B2>(
        self,
        mut parts: response::Parts,
        received: Received<B2>,
    ) -> Response<ResponseBody<B2>>
    where
        B2: Body<Data = Bytes, Error: Send> + Send + 'static,
    {
        let (outcome, body) = match received {
            Received::Unclaimed(body) => (
                self.release(NotKept::LeaseLost).await,
                ResponseBody::passing(body),
            ),
            Received::NotKept(why, body) => (self.release(why).await, ResponseBody::passing(body)),
            Received::TooLong(body) => (
                self.complete(&parts, None).await,
                ResponseBody::passing(body),
            ),
            Received::Collected(Collected::Whole(bytes, body)) => {
                (self.complete(&parts, Some(&bytes)).await, body)
            }
            Received::Collected(Collected::TooLong(body)) => {
                (self.complete(&parts, None).await, body)
            }
            Received::Collected(Collected::Broken(body)) => {
                (self.release(NotKept::BrokenBody).await, body)
            }
            Received::OfUnknownSize(body) => {
                let failure = self.lease.failure();
                let outcome = failure.map_or(Outcome::Recording, Outcome::StoreFailed);
                (outcome, self.record(&parts, body))
            }
        };
        parts.extensions.insert(outcome);
        Response::from_parts(parts, body)
    }

    async fn complete(self, parts: &response::Parts, body: Option<&[u8]>) -> Outcome {
        if self.upload.is_broken() {
            return self.release(NotKept::BrokenUpload).await;
        }
        let record = snapshot::record(self.fingerprint, parts.status, &parts.headers, body);
        match self.lease.settle(Ending::Complete(record)).await {
            Settled::Done if body.is_some() => Outcome::Kept,
            Settled::Done | Settled::DoneWithoutBody => Outcome::KeptWithoutBody,
            Settled::Lost => Outcome::NotKept(NotKept::LeaseLost),
            Settled::Failed(kind) => Outcome::StoreFailed(kind),
        }
    }

    async fn release(self, why: NotKept) -> Outcome {
        match self.lease.settle(Ending::Release).await {
            Settled::Failed(kind) => Outcome::StoreFailed(kind),
            _ => Outcome::NotKept(why),
        }
    }

    /// Sends a body of unknown size on while it is copied; the key is settled before its end.
    fn record<B2>(self, parts: &response::Parts, body: B2) -> ResponseBody<B2>
    where
        B2: Body<Data = Bytes, Error: Send> + Send + 'static,
    {
        let limit = self.setup.config.max_response_bytes;
        let declared = parts.headers.get(CONTENT_LENGTH);
        let declared = declared.and_then(|value| value.to_str().ok()?.parse().ok());
        let patience = self.setup.config.lease;
        let background = self.background.clone();
        // The head that the record is made from; the parts themselves leave now.
        let (mut head, ()) = Response::new(()).into_parts();
        head.status = parts.status;
        head.headers = parts.headers.clone();
        let renewal = self.lease.keep_in_background();
        let finish = move |recorded| -> Finished {
            Box::pin(async move {
                let _renewal = renewal;
                match recorded {
                    Recorded::Whole(bytes) => self.complete(&head, Some(&bytes)).await,
                    Recorded::TooLong => self.complete(&head, None).await,
                    Recorded::Broken => self.release(NotKept::BrokenBody).await,
                };
            })
        };
        ResponseBody::recording(
            body,
            limit,
            declared,
            patience,
            Box::new(finish),
            background,
        )
    }
}
