//! The layer's side of a record that the handler has kept in a transaction of its own.

use bytes::Bytes;
use http::Response;
use http_body::Body;

use super::answer;
use super::execution::Execution;
use super::lease::{Ending, Lease};
use super::problem::Problem;
use super::replay;
use super::transaction::Mark;
use crate::body::ResponseBody;
use crate::outcome::{NotKept, Outcome};
use crate::store::{Begin, Fingerprint, Ownership, Record, Store, StoreError};
use crate::trace;

impl<St: Store> Execution<St> {
    /// Answers for a handler that may have kept its response, and says that it is done, or has failed.
    pub(crate) async fn after_transaction<B2, E>(
        mut self,
        handled: Result<Response<B2>, E>,
    ) -> Result<Response<ResponseBody<B2>>, E>
    where
        B2: Body<Data = Bytes>,
    {
        let handled = handled.map(Response::into_parts);
        let handled = match handled {
            Ok((mut parts, body)) => match Mark::take(&mut parts, self.guard.lease()) {
                Some(mark) => {
                    self.check_in_background();
                    replay::remove_markers(&mut parts);
                    parts.extensions.insert(match mark.has_body {
                        true => Outcome::Kept,
                        false => Outcome::KeptWithoutBody,
                    });
                    let body = match mark.ahead {
                        Some(ahead) => ResponseBody::behind(&ahead, body),
                        None => ResponseBody::passing(body),
                    };
                    return Ok(Response::from_parts(parts, body));
                }
                None => Ok((parts, body)),
            },
            Err(error) => Err(error),
        };
        let lease = self.guard.lease().clone();
        let found = self
            .guard
            .ask(lease.find_record(self.origin.fingerprint))
            .await;
        match found {
            Ok(Some(record)) => {
                self.guard.abandon();
                trace::committed_after_all(&lease.key);
                Ok(answer::replay(self.guard.config(), &record).map(ResponseBody::full))
            }
            Ok(None) => {
                self.guard.abandon();
                let (mut parts, body) = handled?;
                replay::remove_markers(&mut parts);
                let outcome = Outcome::NotKept(NotKept::NotCommitted);
                parts.extensions.insert(outcome);
                Ok(Response::from_parts(parts, ResponseBody::passing(body)))
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
    fn check_in_background(&mut self) {
        let lease = self.guard.lease().clone();
        self.guard.abandon();
        let background = lease.background.clone();
        background.write_later(async move {
            let released = lease.settle_patiently(&Ending::Release).await;
            if released == Some(Ownership::Held) {
                trace::never_committed(&lease.key);
            }
        });
    }
}

impl<St: Store> Lease<St> {
    /// Finds the record of this claim's key, or frees the key if there is none and it is ours.
    async fn find_record(&self, fingerprint: Fingerprint) -> Result<Option<Record>, StoreError> {
        // Waits for a transaction that is still to be committed; a read would not.
        if self.release().await? == Ownership::Held {
            return Ok(None);
        }
        // So does this, if the transaction has found the key absent.
        match self.begin(fingerprint).await? {
            Begin::Completed(record) => {
                Ok(Some(record).filter(|record| record.fingerprint() == fingerprint))
            }
            Begin::InProgress(_) => Ok(None),
            Begin::Started => {
                let _ = self.release().await?;
                Ok(None)
            }
        }
    }

    async fn release(&self) -> Result<Ownership, StoreError> {
        let ownership = self.settle(&Ending::Release).await?;
        self.wake(&Ending::Release, ownership);
        Ok(ownership)
    }
}
