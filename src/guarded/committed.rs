//! The layer's side of a record that the handler has kept in a transaction of its own.

use bytes::Bytes;
use http::{Response, response};
use http_body::Body;

use super::answer;
use super::execution::Execution;
use super::lease::{Ending, Lease};
use super::problem::Problem;
use super::replay;
use super::transaction::Mark;
use crate::body::ResponseBody;
use crate::outcome::{NotKept, Outcome};
use crate::store::{Begin, Fingerprint, Ownership, Record, Store, StoreError, StoreErrorKind};
use crate::trace;

impl<St: Store> Execution<St> {
    /// Answers for a handler that may have kept its response by itself: with what is true.
    pub(crate) async fn after_transaction<B2, E>(
        mut self,
        handled: Result<Response<B2>, E>,
    ) -> Result<Response<ResponseBody<B2>>, E>
    where
        B2: Body<Data = Bytes>,
    {
        let lease = self.guard.lease().clone();
        let fingerprint = self.origin.fingerprint;
        let (handled, kept) = match handled {
            Ok(response) => {
                let (parts, body, kept) = recognise(response, &lease);
                (Ok((parts, body)), kept)
            }
            Err(error) => (Err(error), None),
        };
        if let Some(outcome) = kept {
            let is_kept = match self.guard.ask(lease.is_kept(fingerprint)).await {
                Ok(is_kept) => is_kept,
                // The handler says that it has committed, and nobody else can say by now.
                Err(_) => {
                    self.check_in_background();
                    true
                }
            };
            if is_kept {
                self.guard.abandon();
                lease.wake(&Ending::Release, Ownership::Lost);
                let (mut parts, body) = handled?;
                parts.extensions.insert(outcome);
                return Ok(Response::from_parts(parts, body));
            }
        }
        match self.guard.ask(lease.find_record(fingerprint)).await {
            Ok(Some(record)) => {
                self.guard.abandon();
                trace::committed_after_all(&lease.key);
                let replay = answer::replay(self.guard.config(), &record);
                Ok(replay.map(ResponseBody::full))
            }
            Ok(None) if kept.is_some() => {
                self.guard.abandon();
                trace::never_committed(&lease.key);
                Ok(Problem::NotCommitted
                    .into_response()
                    .map(ResponseBody::full))
            }
            Ok(None) => {
                self.guard.abandon();
                let (mut parts, body) = handled?;
                let outcome = Outcome::NotKept(NotKept::NotCommitted);
                parts.extensions.insert(outcome);
                Ok(Response::from_parts(parts, body))
            }
            Err(error) => {
                // Left to the background, where it waits for the transaction to end.
                self.guard.release_later();
                let problem = Problem::Unknown(error.kind());
                Ok(problem.into_response().map(ResponseBody::full))
            }
        }
    }

    /// Finds out, without its client waiting for it, whether the handler has committed. If it has
    /// not, the claim is still there, and given up.
    fn check_in_background(&self) {
        let lease = self.guard.lease().clone();
        let background = lease.background.clone();
        background.write_later(async move {
            let released = lease.settle_patiently(&Ending::Release).await;
            if released == Some(Ownership::Held) {
                trace::never_committed(&lease.key);
            }
        });
    }
}

/// Takes a handler's response apart. Returns its outcome as well, if it is the one that is kept.
fn recognise<St, B2>(
    response: Response<B2>,
    lease: &Lease<St>,
) -> (response::Parts, ResponseBody<B2>, Option<Outcome>)
where
    B2: Body<Data = Bytes>,
{
    let (mut parts, body) = response.into_parts();
    replay::remove_markers(&mut parts);
    let Some(mark) = Mark::take(&mut parts) else {
        return (parts, ResponseBody::passing(body), None);
    };
    match mark.join(&parts.headers, body) {
        Ok(body) => {
            let outcome = if mark.has_body {
                Outcome::Kept
            } else {
                Outcome::KeptWithoutBody
            };
            let kept = mark.is_of(lease).then_some(outcome);
            (parts, body, kept)
        }
        // The client gets what is kept, which is without this body.
        Err(body) => (parts, ResponseBody::passing(body), None),
    }
}

impl<St: Store> Lease<St> {
    /// Returns whether the key has a record of this request, as far as is committed.
    async fn is_kept(&self, fingerprint: Fingerprint) -> Result<bool, StoreError> {
        match self.begin(fingerprint).await? {
            Begin::Completed(record) => Ok(record.fingerprint() == fingerprint),
            Begin::Started | Begin::InProgress(_) => Ok(false),
        }
    }

    /// Finds the record of this claim's key, or frees the key if there is none and it is ours.
    async fn find_record(&self, fingerprint: Fingerprint) -> Result<Option<Record>, StoreError> {
        for _ in 0..2 {
            // Waits for a transaction that is still to be committed; a read would not.
            if self.release().await? == Ownership::Held {
                return Ok(None);
            }
            // So does this, if the transaction has found the key absent.
            match self.begin(fingerprint).await? {
                Begin::Completed(record) => {
                    let is_ours = record.fingerprint() == fingerprint;
                    return Ok(is_ours.then_some(record));
                }
                Begin::InProgress(_) => return Ok(None),
                // Free, and now ours again: released in the next round, unless a call that is late
                // has kept a record meanwhile.
                Begin::Started => {}
            }
        }
        match self.release().await? {
            Ownership::Held => Ok(None),
            Ownership::Lost => Err(StoreErrorKind::Unavailable.into()),
        }
    }

    async fn release(&self) -> Result<Ownership, StoreError> {
        let ownership = self.settle(&Ending::Release).await?;
        self.wake(&Ending::Release, ownership);
        Ok(ownership)
    }
}
