//! Requests, and sending them.

use std::fmt::Debug;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use tower::{Service, ServiceExt};

use crate::answer::Answer;
use crate::body::Frames;
use crate::wait::in_time;

/// The credential of every request in process, which must appear nowhere else.
pub const CREDENTIAL: &str = "secret-credential";

/// A write with this key: POST /vms.
pub fn write(key: &str) -> Request<Frames> {
    request(Method::POST, "/vms", key)
}

pub fn request(method: Method, target: &str, key: &str) -> Request<Frames> {
    keyed(method, target, CREDENTIAL, key, Frames::exact(["{}"]))
}

/// A request under a key, of the caller with this credential.
pub fn keyed<B>(method: Method, uri: &str, credential: &str, key: &str, body: B) -> Request<B> {
    Request::builder()
        .method(method)
        .uri(uri)
        .header("x-api-key", credential)
        .header("idempotency-key", key)
        .body(body)
        .unwrap()
}

/// Sends a request to a clone of the service, and reads the response to its end.
pub async fn send<S, RB>(app: &S, request: Request<Frames>) -> Answer
where
    S: Service<Request<Frames>, Response = Response<RB>, Error: Debug> + Clone,
    RB: Body<Data = Bytes>,
{
    let response = in_time(app.clone().oneshot(request)).await;
    Answer::<String>::read(response.expect("a response")).await
}
