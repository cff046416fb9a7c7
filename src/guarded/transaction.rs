//! The handler's side of a record that is kept in the handler's own transaction.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response, response};
use http_body::Body;

use super::execution::Origin;
use super::judgement::{Judgement, declared_length};
use super::lease::Lease;
use super::replay;
use crate::body::{Ahead, End, Read, read};
use crate::outcome::NotKept;
use crate::store::{Owner, Ownership, TransactionalStore};
use crate::trace;
use crate::transactional::{TransactionalError, TransactionalErrorKind};

/// What a handler needs to keep its response by itself.
pub(crate) struct Transaction<St> {
    lease: Lease<St>,
    origin: Origin,
    /// The handler's share of the lease's.
    written: Arc<Written>,
}

impl<St> Transaction<St> {
    pub(crate) fn new(lease: Lease<St>, origin: Origin, written: Arc<Written>) -> Self {
        Self {
            lease,
            origin,
            written,
        }
    }
}

impl<St: TransactionalStore> Transaction<St> {
    /// Keeps a response, and marks it as the one that is kept.
    pub(crate) async fn keep<B>(
        &self,
        connection: &mut St::Connection<'_>,
        response: Response<B>,
    ) -> Result<Response<B>, TransactionalError>
    where
        B: Body<Data = Bytes> + From<Bytes> + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let config = &self.lease.setup.config;
        let (mut parts, body) = response.into_parts();
        let judgement = Judgement::of(&parts, &body, config, &self.lease.key, &self.origin.upload);
        let (data, body, ahead) = match judgement {
            Judgement::RulePanicked => return Err(TransactionalErrorKind::RulePanicked.into()),
            Judgement::NotKept(NotKept::BrokenUpload) => {
                return Err(TransactionalErrorKind::BrokenUpload.into());
            }
            Judgement::NotKept(why) => {
                if why == NotKept::Rule && parts.status.is_success() {
                    trace::success_not_kept(&self.lease.key);
                }
                return Ok(Response::from_parts(parts, body));
            }
            Judgement::WithoutContent => (Some(Bytes::new()), body, None),
            Judgement::TooLong => (None, body, None),
            Judgement::OfSize(_) | Judgement::OfUnknownSize => {
                let read = read_whole(&mut parts, body, config.max_response_bytes).await;
                // Known only now, if the body is made while the request is still read.
                if self.origin.upload.is_broken() {
                    return Err(TransactionalErrorKind::BrokenUpload.into());
                }
                read?
            }
        };
        let record = replay::record(
            self.origin.fingerprint,
            parts.status,
            &parts.headers,
            data.as_deref(),
        );
        let Lease {
            setup, key, owner, ..
        } = &self.lease;
        let call = self.written.begin();
        let kept = setup
            .store
            .complete_in(connection, key, *owner, &record, config.ttl);
        let kept = kept.await;
        if let Ok(Ownership::Held) = kept {
            self.written.set_last(call);
        }
        self.written.end();
        match kept? {
            Ownership::Held => {}
            Ownership::Lost if self.written.last() > 0 => {
                trace::kept_twice(key);
                return Err(TransactionalErrorKind::AlreadyKept.into());
            }
            Ownership::Lost => {
                trace::lease_lost(key);
                return Err(TransactionalErrorKind::LeaseLost.into());
            }
        }
        parts.extensions.insert(Mark {
            owner: *owner,
            call,
            has_body: data.is_some(),
            ahead: ahead.map(Arc::new),
        });
        Ok(Response::from_parts(parts, body))
    }
}

/// Reads a body whole. Returns its data unless it is over the limit, the body to hand on, and what the
/// layer is to send before that.
async fn read_whole<B>(
    parts: &mut response::Parts,
    mut body: B,
    limit: usize,
) -> Result<(Option<Bytes>, B, Option<Ahead>), TransactionalError>
where
    B: Body<Data = Bytes> + From<Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let size = body.size_hint().exact();
    let Read { data, end } = read(Pin::new(&mut body), limit).await;
    if size.is_some_and(|size| data.len() as u64 > size) {
        // The whole body is sent, which a server would otherwise cut at this length.
        parts.headers.remove(CONTENT_LENGTH);
    }
    match end {
        End::Broken(Some(error)) => Err(TransactionalError::new(
            TransactionalErrorKind::BrokenBody,
            error,
        )),
        End::Broken(None) => Err(TransactionalErrorKind::BrokenBody.into()),
        End::TooLong => Ok((None, body, Some(Ahead::new(data, None)))),
        End::Whole(_) if is_short(&parts.headers, &data) => {
            Err(TransactionalErrorKind::BrokenBody.into())
        }
        End::Whole(None) => Ok((Some(data.clone()), B::from(data), None)),
        // A body that is made from bytes has no place for them.
        End::Whole(Some(trailers)) => {
            let ahead = Ahead::new(data.clone(), trailers.into_trailers().ok());
            Ok((Some(data), B::from(Bytes::new()), Some(ahead)))
        }
    }
}

fn is_short(headers: &HeaderMap, data: &Bytes) -> bool {
    declared_length(headers).is_some_and(|length| (data.len() as u64) < length)
}

/// Whether, and by which call, a handler has kept its response by itself, as far as it says.
#[derive(Debug, Default)]
pub(crate) struct Written {
    begun: AtomicU32,
    /// How many calls are under way. One that is dropped stays so for good: its statement may have
    /// arrived, and then belongs to what is committed.
    pending: AtomicU32,
    last: AtomicU32,
}

impl Written {
    /// Returns whether there may be a record in a transaction of the handler's.
    pub(crate) fn may_be(&self) -> bool {
        self.last() > 0 || self.pending.load(Ordering::Acquire) > 0
    }

    /// Returns the last call that has kept a response, from 1; 0 if none has. No call that fails, or
    /// whose transaction was rolled back, takes this back: one before it may have been committed.
    pub(crate) fn last(&self) -> u32 {
        self.last.load(Ordering::Acquire)
    }

    fn begin(&self) -> u32 {
        self.pending.fetch_add(1, Ordering::AcqRel);
        self.begun.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn end(&self) {
        self.pending.fetch_sub(1, Ordering::AcqRel);
    }

    fn set_last(&self, call: u32) {
        self.last.store(call, Ordering::Release);
    }
}

/// In the extensions of a response, says that it is the one which is kept.
#[derive(Clone)]
pub(crate) struct Mark {
    owner: Owner,
    call: u32,
    /// Whether the record has the body.
    pub(crate) has_body: bool,
    /// What is to be sent before the body.
    pub(crate) ahead: Option<Arc<Ahead>>,
}

impl Mark {
    /// Takes the mark of a response, if it is that of this claim's last call.
    pub(crate) fn take<St>(parts: &mut response::Parts, lease: &Lease<St>) -> Option<Self> {
        let mark = parts.extensions.remove::<Self>()?;
        let last = lease.written.as_ref()?.last();
        (mark.owner == lease.owner && mark.call == last).then_some(mark)
    }
}
