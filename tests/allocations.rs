//! What the layer allocates: nothing for a request that is not its own to handle, no second body for a
//! replay, and no more than the limit for a body that is copied.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::Full;
use tower::{Layer, Service, service_fn};
use tower_idempotency::{IdempotencyLayer, MemoryStore, RequestBody};

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
    B: Body<Data = Bytes>,
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

/// A body of this many bytes in frames of 10,000, whose size nobody knows. Not the scripted one of the
/// other suites, which allocates.
struct Stream(usize);

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static FRAME: [u8; 10_000] = [b'x'; 10_000];
        let len = self.0.min(FRAME.len());
        self.0 -= len;
        let frame = (len > 0).then(|| Ok(Frame::data(Bytes::from_static(&FRAME[..len]))));
        Poll::Ready(frame)
    }
}

/// Sends a write, reads the answer to its end, and returns what that allocated and how long it was.
fn write<S, B>(service: &mut S) -> (AllocationInfo, usize)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
{
    let mut context = Context::from_waker(Waker::noop());
    let request = request(&Method::POST);
    let mut read = 0;
    let counted = measure(|| {
        assert!(service.poll_ready(&mut context).is_ready());
        let called = pin!(service.call(request)).poll(&mut context);
        let Poll::Ready(Ok(response)) = called else {
            panic!("the handler is ready at once");
        };
        let mut body = pin!(response.into_body());
        while let Poll::Ready(Some(Ok(frame))) = body.as_mut().poll_frame(&mut context) {
            read += frame.data_ref().unwrap().len();
        }
    });
    (counted, read)
}

#[test]
fn a_replay_does_not_copy_the_body() {
    let handler = service_fn(|_: Request<RequestBody<Full<Bytes>>>| {
        ready(Ok(Response::new(Full::new(Bytes::from(vec![
            b'x';
            65_536
        ])))))
    });
    let mut service = IdempotencyLayer::new(MemoryStore::new()).layer(handler);
    let (first, read) = write(&mut service);
    assert_eq!(read, 65_536);
    assert!(first.bytes_total > 65_536, "the counter works");
    for _ in 0..2 {
        let (replay, read) = write(&mut service);
        assert_eq!(read, 65_536);
        assert!(replay.bytes_total < 8_192, "{} bytes", replay.bytes_total);
    }
}

#[test]
fn a_copy_takes_no_more_room_than_the_limit() {
    let limit = 1024 * 1024;
    for len in [limit - 1, limit, limit + 1, 10 * limit] {
        let handler = service_fn(move |_: Request<RequestBody<Full<Bytes>>>| {
            ready(Ok::<_, Infallible>(Response::new(Stream(len))))
        });
        let mut service = IdempotencyLayer::new(MemoryStore::new()).layer(handler);
        let (counted, read) = write(&mut service);
        assert_eq!(read, len);
        // A body that is kept is there twice for a moment: the copy, and the record made from it. And
        // a copy that grows is there in its old and its new room.
        let most = if len > limit {
            limit * 3 / 2
        } else {
            limit * 2
        } + 65_536;
        let max = usize::try_from(counted.bytes_max).unwrap();
        assert!(max < most, "{max} bytes for a body of {len}");
        let (replay, read) = write(&mut service);
        assert_eq!(read, if len > limit { 0 } else { len });
        assert!(replay.bytes_total < 8_192, "{} bytes", replay.bytes_total);
    }
}
