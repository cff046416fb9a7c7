//! A response that was read, and what it must be.

use std::fmt::Debug;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::Body;
use tower_idempotency::Outcome;

use crate::body::{Broken, read};
use crate::wait::{in_time, soon};

/// A response that was read to its end: with a text in process, with bytes over a network.
#[derive(Clone, Debug)]
pub struct Answer<B = String> {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Over a network, that of a response which no layer has seen.
    pub outcome: Outcome,
    pub body: B,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// Reads a response on a clock that is paused, or by hand.
    pub async fn read<RB: Body<Data = Bytes>>(response: Response<RB>) -> Self {
        let answer = in_time(whole(response)).await.expect("a whole body");
        answer.map(|body| String::from_utf8(body.into()).unwrap())
    }
}

impl Answer<Bytes> {
    /// Reads a response that comes over a network, unless it breaks.
    pub async fn read<RB: Body<Data = Bytes>>(response: Response<RB>) -> Result<Self, Broken> {
        soon(whole(response)).await
    }
}

async fn whole<RB: Body<Data = Bytes>>(response: Response<RB>) -> Result<Answer<Bytes>, Broken> {
    let (parts, body) = response.into_parts();
    let read = read(body).await;
    if read.is_broken {
        return Err(Broken);
    }
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        outcome: Outcome::of(&parts.extensions),
        body: read.data.into(),
        trailers: read.trailers,
    })
}

impl<B> Answer<B> {
    pub fn is_replay(&self) -> bool {
        self.headers.contains_key("idempotency-replayed")
    }

    pub fn is_without_body(&self) -> bool {
        self.headers.contains_key("idempotency-replay-body")
    }

    fn map<C>(self, change: impl FnOnce(B) -> C) -> Answer<C> {
        Answer {
            status: self.status,
            headers: self.headers,
            outcome: self.outcome,
            body: change(self.body),
            trailers: self.trailers,
        }
    }
}

impl<B: Debug + PartialEq<str>> Answer<B> {
    /// Checks that this is the answer of a run that was kept, or is being kept.
    #[track_caller]
    pub fn assert_run(&self, body: &str) {
        assert!(
            matches!(self.outcome, Outcome::Kept | Outcome::Recording),
            "{self:?}"
        );
        assert!(self.body == *body, "{self:?}");
        assert!(!self.is_replay());
    }

    #[track_caller]
    pub fn assert_replay(&self, body: &str) {
        assert_eq!(self.outcome, Outcome::Replayed, "{self:?}");
        assert_eq!(self.headers["idempotency-replayed"], "true", "{self:?}");
        assert!(self.body == *body, "{self:?}");
    }

    #[track_caller]
    pub fn assert_in_progress(&self) {
        assert_eq!(self.outcome, Outcome::InProgress, "{self:?}");
        assert_eq!(self.status, StatusCode::CONFLICT, "{self:?}");
    }
}
