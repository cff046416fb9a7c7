//! The answers to requests whose handler does not run, as the application wants them.

use bytes::Bytes;
use http::{Response, request};

use super::problem::Problem;
use super::replay;
use crate::config::Config;
use crate::refusal::Refusal;
use crate::store::Record;

/// Makes the answer to a request that is refused.
pub(crate) fn refuse(config: &Config, refusal: Refusal, parts: &request::Parts) -> Response<Bytes> {
    let problem = Problem::from(refusal);
    let Some(refuse_with) = &config.refuse_with else {
        return problem.into_response();
    };
    let mut response = refuse_with(refusal, parts);
    response.extensions_mut().insert(problem.outcome());
    response
}

/// Makes the response of a replay.
pub(crate) fn replay(config: &Config, record: &Record) -> Response<Bytes> {
    let replay = replay::replay(record);
    let Some(on_replay) = &config.on_replay else {
        return replay;
    };
    let (mut parts, body) = replay.into_parts();
    on_replay(&mut parts);
    Response::from_parts(parts, body)
}
