//! Response bodies of every kind: what they are to the middleware around, and how they are kept.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tokio::time::timeout;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_idempotency::{Outcome, RequestBody, ResponseBody};

use crate::support::{
    Broken, Frames, Gate, Handler, LEASE, Piece, numbered, responding, scripted, send, write,
};

#[tokio::test(start_paused = true)]
async fn a_response_without_content_is_kept_at_once_whatever_its_body() {
    let bodies: [fn() -> Frames; 4] = [
        Frames::default,
        || Frames::unknown([Piece::Pend]),
        || Frames::unknown([Piece::Until(Box::pin(std::future::pending()))]),
        || Frames::exact(["no server sends this"]),
    ];
    for status in [204, 304] {
        for body in bodies {
            let (layer, _) = scripted();
            let handler = Handler::new(move |_, _| async move { responding(status, body()) });
            let app = handler.under(&layer);
            let first = app.clone().oneshot(write("k")).await.unwrap();
            assert_eq!(Outcome::of(first.extensions()), Outcome::Kept, "{status}");
            // A server drops the body unread.
            drop(first);
            let replay = send(&app, write("k")).await;
            replay.assert_replay("");
            assert_eq!(replay.status, status);
            assert!(!replay.headers.contains_key("idempotency-replay-body"));
            assert_eq!(handler.runs(), 1);
        }
    }
}

/// A body of empty frames, each ready at once. It breaks off after so many that nobody else can have
/// had a turn meanwhile.
struct Empties {
    size: SizeHint,
    read: Arc<AtomicUsize>,
}

const TOO_MANY: usize = 100_000;

impl Body for Empties {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let read = self.read.fetch_add(1, Ordering::SeqCst);
        let frame = (read < TOO_MANY).then(|| Frame::data(Bytes::new()));
        Poll::Ready(Some(frame.ok_or(Broken)))
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

#[tokio::test(flavor = "current_thread")]
async fn endless_empty_frames_do_not_keep_their_thread_from_other_requests() {
    let read = Arc::new(AtomicUsize::new(0));
    // As a response whose size is known, and as one whose size is not.
    for size in [SizeHint::with_exact(7), SizeHint::default()] {
        let (layer, _) = scripted();
        let body_read = Arc::clone(&read);
        let endless = layer.layer(service_fn(move |_: Request<RequestBody<Frames>>| {
            let read = Arc::clone(&body_read);
            async move { Ok::<_, Infallible>(Response::new(Empties { size, read })) }
        }));
        let running = tokio::spawn(endless.oneshot(write("endless")));
        tokio::task::yield_now().await;
        let read = read.swap(0, Ordering::SeqCst);
        assert!((1..TOO_MANY).contains(&read), "{size:?}: {read}");
        running.abort();
        drop(running.await);
    }

    // As an upload that is drained.
    let (layer, _) = scripted();
    let layer = layer.max_drained_bytes(usize::MAX);
    let body_read = Arc::clone(&read);
    let size = SizeHint::default();
    let upload = write("").map(|_| Empties {
        size,
        read: body_read,
    });
    let handler = service_fn(async |_: Request<RequestBody<Empties>>| {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
    });
    let refused = layer.layer(handler).oneshot(upload).await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let read = read.load(Ordering::SeqCst);
    assert!((1..TOO_MANY).contains(&read), "{read}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_sync_stays_so_and_can_be_boxed() {
    fn assert_sync<T: Send + Sync + 'static>(_: &T) {}
    let (layer, _) = scripted();
    let mut app = layer.layer(service_fn(async |_: Request<RequestBody<Frames>>| {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"{}"))))
    }));
    for _ in 0..2 {
        let response = app.ready().await.unwrap().call(write("k")).await.unwrap();
        let body: ResponseBody<Full<Bytes>> = response.into_body();
        assert_sync(&body);
        let boxed = body.boxed();
        assert_eq!(boxed.collect().await.unwrap().to_bytes(), "{}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_read_ahead_reaches_its_client_whole_and_in_order_however_late_it_reads() {
    // Beyond the number of frames that wait one by one, and with some that are empty.
    for frames in [1, 1000, 5000] {
        let (layer, _) = scripted();
        let handler = Handler::new(move |_, _| async move {
            let pieces = (0..frames).flat_map(|n| {
                let word = ["a", "bc", "", "def"][n % 4];
                [Piece::Data(word), Piece::Pend].into_iter().take(1 + n % 2)
            });
            Ok(Response::new(Frames::unknown(pieces)))
        });
        let expected: String = (0..frames).map(|n| ["a", "bc", "", "def"][n % 4]).collect();
        let app = handler.under(&layer);
        let first = app.clone().oneshot(write("k")).await.unwrap();
        let mut retry = send(&app, write("k")).await;
        while retry.outcome == Outcome::InProgress {
            tokio::task::yield_now().await;
            retry = send(&app, write("k")).await;
        }
        retry.assert_replay(&expected);
        let body = first.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_read_ahead_stays_in_order_while_its_client_reads_now_and_then() {
    const WORDS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let (layer, _) = scripted();
    let gate = Gate::new();
    let at_gate = gate.clone();
    let handler = Handler::new(move |_, _| {
        let gate = at_gate.clone();
        let words = |from: usize, to: usize| (from..to).map(|n| Piece::Data(WORDS[n % 10]));
        let wait = Piece::Until(Box::pin(async move { gate.pass().await }));
        let pieces = words(0, 1500).chain([wait]).chain(words(1500, 2000));
        let body = Frames::unknown(pieces.chain([Piece::Pend]));
        async { Ok(Response::new(body)) }
    });
    let app = handler.under(&layer);
    let mut body = app.clone().oneshot(write("k")).await.unwrap().into_body();
    gate.reached().await;
    let mut read = Vec::new();
    for _ in 0..50 {
        let frame = body.frame().await.unwrap().unwrap();
        read.extend_from_slice(&frame.into_data().unwrap());
    }
    gate.open();
    let mut retry = send(&app, write("k")).await;
    while retry.outcome == Outcome::InProgress {
        tokio::task::yield_now().await;
        retry = send(&app, write("k")).await;
    }
    read.extend_from_slice(&body.collect().await.unwrap().to_bytes());
    let expected: String = (0..2000).map(|n| WORDS[n % 10]).collect();
    assert_eq!(String::from_utf8(read).unwrap(), expected);
    retry.assert_replay(&expected);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_body_waits_for_its_record_and_its_frames_do_not() {
    let (layer, _) = scripted();
    let handler = Handler::new(|run, _| async move {
        let wait = Piece::Until(Box::pin(tokio::time::sleep(LEASE * 3)));
        let pieces = [Piece::Data(numbered(run)), wait, Piece::Data("end")];
        Ok(Response::new(Frames::unknown(pieces)))
    });
    let app = handler.under(&layer);
    let mut body = app.oneshot(write("k")).await.unwrap().into_body();
    let frame = timeout(Duration::from_millis(1), body.frame()).await;
    let frame = frame.expect("the first frame is not held back");
    assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), numbered(1));
    assert!(!body.is_end_stream());
    let rest = body.collect().await.unwrap().to_bytes();
    assert_eq!(rest, "end");
}

#[test]
fn a_runtime_that_ends_leaves_the_rest_of_a_body_to_its_client() {
    let (layer, _) = scripted();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let receiver = std::sync::Mutex::new(Some(receiver));
    let handler = Handler::new(move |_, _| {
        let receiver = receiver.lock().unwrap().take();
        async move {
            let wait = Piece::Until(Box::pin(async move { drop(receiver.unwrap().await) }));
            let pieces = [Piece::Data("a"), wait, Piece::Data("b")];
            Ok(Response::new(Frames::unknown(pieces)))
        }
    });
    let app = handler.under(&layer);
    let response = runtime.block_on(app.oneshot(write("k"))).unwrap();
    drop(runtime);
    sender.send(()).unwrap();
    let other = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let body = other.block_on(response.into_body().collect()).unwrap();
    assert_eq!(body.to_bytes(), "ab");
}
