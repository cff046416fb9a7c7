//! A response that was read, and what it must be.

use std::fmt::Debug;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use tower_idempotency::Outcome;

use super::wait::in_time;

/// A response that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) outcome: Outcome,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) async fn read<RB>(response: Response<RB>) -> Self
    where
        RB: Body<Data = Bytes, Error: Debug>,
    {
        let (parts, body) = response.into_parts();
        let body = in_time(body.collect()).await.expect("a whole body");
        Self {
            status: parts.status,
            headers: parts.headers,
            outcome: Outcome::of(&parts.extensions),
            body: String::from_utf8(body.to_bytes().into()).unwrap(),
        }
    }

    /// Checks that this is the answer of a run that was kept, or is being kept.
    #[track_caller]
    pub(crate) fn assert_run(&self, body: &str) {
        assert!(
            matches!(self.outcome, Outcome::Kept | Outcome::Recording),
            "{self:?}"
        );
        assert_eq!(self.body, body, "{self:?}");
        assert!(!self.headers.contains_key("idempotency-replayed"));
    }

    #[track_caller]
    pub(crate) fn assert_replay(&self, body: &str) {
        assert_eq!(self.outcome, Outcome::Replayed, "{self:?}");
        assert_eq!(self.headers["idempotency-replayed"], "true", "{self:?}");
        assert_eq!(self.body, body, "{self:?}");
    }

    #[track_caller]
    pub(crate) fn assert_in_progress(&self) {
        assert_eq!(self.outcome, Outcome::InProgress, "{self:?}");
        assert_eq!(self.status, StatusCode::CONFLICT, "{self:?}");
    }
}
