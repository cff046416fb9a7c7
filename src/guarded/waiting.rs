//! Waiting for the answer of a request that is still running.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use http::{HeaderMap, HeaderValue};
use tower_service::Service;

use super::execution::{Execution, Found};
use super::lease::Ending;
use super::prefer::Wait;
use super::waiters::Waiter;
use crate::in_flight::InFlight;
use crate::refusal::Refusal;
use crate::store::Store;
use crate::store_failure::StoreFailure;

/// What a wait has come to.
pub(crate) struct Waited<E> {
    /// What answers, or nothing if the handler is to run; or the error of a service that is not ready
    /// for that.
    pub(crate) found: Result<Option<Found>, E>,
    /// What to say to a client that has said how long it would wait.
    pub(crate) applied: Option<HeaderValue>,
}

/// Waits until a request that is in progress has an answer, if the layer is to wait and can.
///
/// `ready` is not ready meanwhile, and so holds nothing that another request could use. It is ready
/// again if the handler is to run.
// Boxed, so that a request which does not wait is not the larger for it.
pub(crate) fn wait<'a, S, R, St: Store>(
    execution: &'a mut Execution<St>,
    ready: &'a mut S,
    headers: &HeaderMap,
) -> Option<Pin<Box<impl Future<Output = Waited<S::Error>> + use<'a, S, R, St>>>>
where
    S: Service<R> + Clone,
{
    let guard = &execution.guard;
    let InFlight::Wait(max) = guard.config().in_flight else {
        return None;
    };
    let Wait { limit, applied } = Wait::of(max, headers);
    let deadline = guard.background().sleep(limit)?;
    let waiter = guard.lease().setup.waiters.enter(*guard.key())?;
    Some(Box::pin(async move {
        *ready = ready.clone();
        let mut deadline = pin!(deadline);
        let found = {
            let mut answer = pin!(execution.ask_again_and_again(&waiter));
            poll_fn(|context| {
                if let Poll::Ready(found) = answer.as_mut().poll(context) {
                    return Poll::Ready(found);
                }
                let too_late = || Some(Found::Refused(Refusal::InProgress));
                deadline.as_mut().poll(context).map(|()| too_late())
            })
            .await
        };
        drop(waiter);
        let found = match found {
            Some(found) => Ok(Some(found)),
            None => execution.get_ready(ready).await.map(|()| None),
        };
        Waited { found, applied }
    }))
}

impl<St: Store> Execution<St> {
    /// Asks the store at once, whenever it is woken, and in its turns, until there is something else
    /// than a request in progress.
    async fn ask_again_and_again(&mut self, waiter: &Waiter) -> Option<Found> {
        loop {
            // From before the store is asked, so that nothing is missed that happens meanwhile.
            let mut woken = pin!(waiter.woken());
            let begun = self.guard.begin_again(self.origin.fingerprint).await;
            let is_open = self.guard.config().store_failure == StoreFailure::Open;
            // A store that fails does not end the wait: the other handler may still be running.
            if !(begun.is_err() && is_open) {
                match self.found(begun) {
                    Some(Found::Refused(Refusal::InProgress)) => {}
                    found => {
                        if let Some(Found::Completed(_) | Found::Refused(Refusal::KeyReused)) =
                            found
                        {
                            waiter.wake_others();
                        }
                        return found;
                    }
                }
            }
            let mut turn = pin!(waiter.turn(self.guard.background()));
            poll_fn(|context| match woken.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => turn.as_mut().poll(context),
            })
            .await;
        }
    }

    /// Waits until a service is ready, and holds the claim meanwhile.
    async fn get_ready<S: Service<R>, R>(&mut self, service: &mut S) -> Result<(), S::Error> {
        let mut is_ready = pin!(poll_fn(|context| service.poll_ready(context)));
        let is_ready = self.guard.during(is_ready.as_mut()).await;
        if is_ready.is_err() {
            // Whatever comes of it, the error is the service's.
            let _ = self.guard.settle(Ending::Release).await;
        }
        is_ready
    }
}
