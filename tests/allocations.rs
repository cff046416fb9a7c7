//! What the layer allocates for a request that is not its own to handle: nothing.
#![cfg(feature = "memory")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use tower::{Layer, Service, service_fn};
use tower_idempotency::{IdempotencyLayer, MemoryStore};

/// Answers with an allocation of its own, so that a count of nothing at all is no mistake.
fn handle<B>(request: Request<B>) -> Ready<Result<Response<Full<Bytes>>, Infallible>> {
    let (parts, _) = request.into_parts();
    let body = Bytes::from(parts.uri.path().to_owned());
    ready(Ok(Response::new(Full::new(body))))
}

fn request(method: &Method) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri("/vms/1")
        .header("x-api-key", "secret")
        .header("idempotency-key", "order-4711")
        .body(Full::new(Bytes::from_static(b"{}")))
        .unwrap()
}

/// Counts what one call allocates, from the request to the end of the response's body.
fn count<S, B>(mut service: S, method: &Method) -> AllocationInfo
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes>,
{
    let mut context = Context::from_waker(Waker::noop());
    let mut counted = AllocationInfo::default();
    // Whatever is set up once is set up in the first rounds.
    for _ in 0..3 {
        let request = request(method);
        counted = measure(|| {
            assert!(service.poll_ready(&mut context).is_ready());
            let called = pin!(service.call(request)).poll(&mut context);
            let Poll::Ready(Ok(response)) = called else {
                panic!("the handler is ready at once");
            };
            let mut body = pin!(response.into_body());
            let frame = body.as_mut().poll_frame(&mut context);
            assert!(matches!(frame, Poll::Ready(Some(Ok(_)))));
        });
    }
    counted
}

#[test]
fn a_method_that_is_not_guarded_costs_no_allocation() {
    let layer = IdempotencyLayer::new(MemoryStore::new());
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
        let bare = count(service_fn(handle::<Full<Bytes>>), &method);
        let layered = count(layer.layer(service_fn(handle)), &method);
        assert!(bare.count_total > 0, "the counter works");
        assert_eq!(
            (layered.count_total, layered.bytes_total),
            (bare.count_total, bare.bytes_total),
            "{method}"
        );
    }
    // A request that is guarded does allocate, which the counter sees.
    let bare = count(service_fn(handle::<Full<Bytes>>), &Method::POST);
    let layered = count(layer.layer(service_fn(handle)), &Method::POST);
    assert!(layered.count_total > bare.count_total);
}
