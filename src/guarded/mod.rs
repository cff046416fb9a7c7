//! What happens to a request that has a key and a caller, from top to bottom.

pub(crate) mod answer;
mod committed;
mod execution;
mod guard;
mod judgement;
mod lease;
mod prefer;
pub(crate) mod problem;
mod replay;
pub(crate) mod transaction;
pub(crate) mod waiters;
mod waiting;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use self::execution::{Execution, Found, Origin, not_kept};
use self::guard::Guard;
use self::judgement::Judgement;
use self::lease::Ending;
use self::waiting::Waited;
use crate::body::{Collected, RequestBody, ResponseBody, UploadState, collect, drain};
use crate::config::Setup;
use crate::future::{Begun, Detachable};
use crate::key::IdempotencyKey;
use crate::outcome::{NotKept, Outcome, Unprotected};
use crate::refusal::Refusal;
use crate::runtime::Background;
use crate::store::{Fingerprint, RecordKey, Store};
use crate::transactional::Transactional;

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
    mut ready: S,
    record_key: RecordKey,
    fingerprint: Fingerprint,
    key: IdempotencyKey,
    mut request: Request<B>,
) -> impl Future<Output = Begun<Result<Response<ResponseBody<B2>>, S::Error>>>
where
    S: Service<Request<RequestBody<B>>, Response = Response<B2>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    St: Store,
    B: Body<Data: Send, Error: Send> + Send + 'static,
    B2: Body<Data = Bytes, Error: Send> + Send + 'static,
{
    let mut execution = Execution {
        origin: Origin {
            fingerprint,
            upload: UploadState::default(),
            ttl: setup.config.ttl,
            headers: None,
        },
        guard: Guard::new(setup, background, record_key),
    };
    async move {
        let (found, applied) = match execution.begin().await {
            Some(found @ Found::Refused(Refusal::InProgress)) => {
                match waiting::wait(&mut execution, &mut ready, request.headers()) {
                    Some(waiting) => match waiting.await {
                        Waited {
                            found: Ok(found),
                            applied,
                        } => (found, applied),
                        Waited {
                            found: Err(error), ..
                        } => return Begun::Answered(Err(error)),
                    },
                    None => (Some(found), None),
                }
            }
            found => (found, None),
        };
        if let Some(found) = found {
            // The service is not called, and so must give back what it has reserved to be ready.
            drop(ready);
            let guard = &execution.guard;
            let config = guard.config();
            let (parts, body) = request.into_parts();
            let mut response = match found {
                Found::Refused(refusal) => answer::refuse(config, refusal, &parts),
                Found::Completed(record) => answer::replay(config, &record),
            };
            prefer::apply(applied, &mut response);
            let request = Request::from_parts(parts, body);
            drain(request, guard.background(), config.drain_limits());
            return Begun::Answered(Ok(response.map(ResponseBody::full)));
        }
        request.extensions_mut().insert(Guarded);
        request.extensions_mut().insert(key);
        match execution.guard.failure() {
            Some(kind) => {
                let why = Unprotected::StoreFailed(kind);
                request.extensions_mut().insert(why);
            }
            // A layer further out, with another header or caller, may have let it pass.
            None => drop(request.extensions_mut().remove::<Unprotected>()),
        }
        if execution.guard.config().transactional {
            let transactional = Transactional::of(execution.transaction());
            request.extensions_mut().insert(transactional);
        }
        let background = execution.guard.background().clone();
        // Called here and not in the future that runs, so that it need not hold the request.
        let response = ready.call(execution.watch(request));
        let running = run(execution, response);
        Begun::Running(match applied {
            None => Detachable::new(running, background),
            applied => {
                let running = async {
                    let mut response = running.await?;
                    prefer::apply(applied, &mut response);
                    Ok(response)
                };
                Detachable::new(running, background)
            }
        })
    }
}

/// Runs the handler and keeps its response.
fn run<F, St, B2, E>(
    mut execution: Execution<St>,
    response: F,
) -> impl Future<Output = Result<Response<ResponseBody<B2>>, E>>
where
    F: Future<Output = Result<Response<B2>, E>>,
    St: Store,
    B2: Body<Data = Bytes, Error: Send> + Send + 'static,
{
    // Apart, for the same reason.
    let mut response = Box::pin(response);
    async move {
        let handled = execution.guard.during(response.as_mut()).await;
        // What it held to be ready is free before its response is kept.
        drop(response);
        if execution.guard.lease().may_be_written() {
            // Boxed, so that a response which the layer keeps is not the larger for it.
            return Box::pin(execution.after_transaction(handled)).await;
        }
        let (mut parts, body) = match handled {
            Ok(response) => response.into_parts(),
            Err(error) => {
                // Whatever comes of it, the error is the handler's.
                let _ = execution.guard.settle(Ending::Release).await;
                return Err(error);
            }
        };
        replay::remove_markers(&mut parts);
        let Execution { guard, origin } = &mut execution;
        let judgement = if guard.may_be_held() {
            let (config, key) = (guard.config(), guard.key());
            Judgement::of(&parts, &body, config, key, origin)
        } else {
            // The store has refused the claim, which is what the outcome reports.
            Judgement::NotKept(NotKept::LeaseLost)
        };
        let ((ending, outcome), body) = match judgement {
            Judgement::RulePanicked => {
                // Nobody can say whether it is to be kept, and freeing the key would invite another
                // run.
                guard.abandon();
                let outcome = Outcome::NotKept(NotKept::RulePanicked);
                parts.extensions.insert(outcome);
                return Ok(Response::from_parts(parts, ResponseBody::passing(body)));
            }
            Judgement::NotKept(why) => (not_kept(why), ResponseBody::passing(body)),
            Judgement::WithoutContent => {
                let kept = origin.kept(parts.status, &parts.headers, Some(&[]));
                (kept, ResponseBody::passing(body))
            }
            Judgement::TooLong => {
                let kept = origin.kept(parts.status, &parts.headers, None);
                (kept, ResponseBody::passing(body))
            }
            // Boxed, so that a response of known size is not the larger for it.
            Judgement::OfUnknownSize => {
                return Ok(Box::pin(execution.record(parts, body)).await);
            }
            Judgement::OfSize(size) => {
                let limit = guard.config().max_response_bytes;
                let collected = {
                    let mut collected = pin!(collect(body, limit));
                    // The handler has run, and so its answer is kept even if the body is dropped.
                    let if_dropped = || origin.kept(parts.status, &parts.headers, None).0;
                    guard.during_or(collected.as_mut(), if_dropped).await
                };
                if collected.is_longer_than(size) {
                    // The whole body is sent, which a server would otherwise cut at this length.
                    parts.headers.remove(CONTENT_LENGTH);
                }
                match collected {
                    Collected::Whole(whole) => {
                        let data = Some(&whole.data[..]);
                        let kept = origin.kept(parts.status, &parts.headers, data);
                        (kept, whole.into_body())
                    }
                    Collected::TooLong(body) => {
                        (origin.kept(parts.status, &parts.headers, None), body)
                    }
                    Collected::Broken(body) => (not_kept(NotKept::BrokenBody), body),
                }
            }
        };
        // The key is settled before the response leaves, so that the client can rely on either.
        let settled = guard.settle(ending).await;
        parts.extensions.insert(settled.outcome(outcome));
        Ok(Response::from_parts(parts, body))
    }
}
