//! Requests, and sending them.

use std::fmt::Debug;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use tower::{Service, ServiceExt};

use super::wait::in_time;
use super::{Answer, Frames};

/// The credential of every request here, which must appear nowhere else.
pub(crate) const CREDENTIAL: &str = "secret-credential";

/// A write with this key: POST /vms.
pub(crate) fn write(key: &str) -> Request<Frames> {
    request(Method::POST, "/vms", key)
}

pub(crate) fn request(method: Method, target: &str, key: &str) -> Request<Frames> {
    Request::builder()
        .method(method)
        .uri(target)
        .header("x-api-key", CREDENTIAL)
        .header("idempotency-key", key)
        .body(Frames::exact(["{}"]))
        .unwrap()
}

/// Sends a request to a clone of the service, and reads the response to its end.
pub(crate) async fn send<S, RB>(app: &S, request: Request<Frames>) -> Answer
where
    S: Service<Request<Frames>, Response = Response<RB>, Error: Debug> + Clone,
    RB: Body<Data = Bytes, Error: Debug>,
{
    let response = in_time(app.clone().oneshot(request)).await;
    Answer::read(response.expect("a response")).await
}
