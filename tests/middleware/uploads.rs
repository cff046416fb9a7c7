//! Uploads that break, whatever the way, and those that no handler reads.

use std::time::Duration;

use http::{Method, Request};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;
use tower_idempotency::{Idempotency, NotKept, Outcome, RequestBody};

use crate::support::{
    Frames, Handler, Piece, Scripted, created, numbered, request, scripted, send, write,
};

const SECOND: Duration = Duration::from_secs(1);

/// How a handler reads its upload.
#[derive(Clone, Copy, Debug)]
enum Reads {
    ToItsEnd,
    UntilItSaysThatItHasEnded,
    OneFrame,
    Nothing,
}

async fn read(body: RequestBody<Frames>, reads: Reads) {
    let mut body = Box::pin(body);
    match reads {
        Reads::ToItsEnd => while let Some(Ok(_)) = body.frame().await {},
        Reads::UntilItSaysThatItHasEnded => {
            while !body.is_end_stream() && matches!(body.frame().await, Some(Ok(_))) {}
        }
        Reads::OneFrame => drop(body.frame().await),
        Reads::Nothing => {}
    }
}

struct Upload {
    what: &'static str,
    body: fn() -> Frames,
    content_length: Option<&'static str>,
    /// Whether a handler that reads one frame has seen a break by then, and one that reads to the
    /// end.
    breaks_by: [bool; 2],
}

const UPLOADS: [Upload; 9] = [
    Upload {
        what: "whole, of a known size",
        body: || Frames::exact(["12345", "67890"]),
        content_length: Some("10"),
        breaks_by: [false, false],
    },
    Upload {
        what: "whole, of an unknown size",
        body: || Frames::unknown(["12345", "67890"]),
        content_length: Some("10"),
        breaks_by: [false, false],
    },
    Upload {
        what: "undeclared",
        body: || Frames::unknown(["12345"]),
        content_length: None,
        breaks_by: [false, false],
    },
    Upload {
        what: "decoded by a middleware that has left the header",
        body: || Frames::exact(["12345"]),
        content_length: Some("10"),
        breaks_by: [false, false],
    },
    Upload {
        what: "half of what the header says",
        body: || Frames::unknown(["12345"]),
        content_length: Some("10"),
        breaks_by: [true, true],
    },
    Upload {
        what: "half, and then a pause, of what the header says",
        body: || Frames::unknown([Piece::Data("12345"), Piece::Pend]),
        content_length: Some("10"),
        breaks_by: [false, true],
    },
    Upload {
        what: "nothing of what the header says",
        body: Frames::default,
        content_length: Some("10"),
        breaks_by: [true, true],
    },
    Upload {
        what: "half of what the body says",
        body: || Frames::unknown(["12345"]).that_promises(Some(10)),
        content_length: None,
        breaks_by: [true, true],
    },
    Upload {
        what: "half, and then an error",
        body: || Frames::unknown([Piece::Data("12345"), Piece::Break]),
        content_length: None,
        breaks_by: [false, true],
    },
];

#[tokio::test(start_paused = true)]
async fn an_upload_that_ends_before_its_declared_length_is_broken_whatever_the_way_it_ends() {
    for upload in UPLOADS {
        let [by_one_frame, by_the_end] = upload.breaks_by;
        for (reads, is_broken) in [
            (Reads::ToItsEnd, by_the_end),
            (Reads::UntilItSaysThatItHasEnded, by_the_end),
            (Reads::OneFrame, by_one_frame),
            // Who does not read it does not see the break.
            (Reads::Nothing, false),
        ] {
            let (layer, _) = scripted();
            let handler = Handler::new(move |run, request| async move {
                read(request.into_body(), reads).await;
                created(numbered(run))
            });
            let mut request = write("k").map(|_| (upload.body)());
            if let Some(length) = upload.content_length {
                let length = length.parse().unwrap();
                request.headers_mut().insert("content-length", length);
            }
            let app = handler.under(&layer);
            let first = send(&app, request).await;
            let place = format!("{}, read {reads:?}", upload.what);
            if is_broken {
                let outcome = Outcome::NotKept(NotKept::BrokenUpload);
                assert_eq!(first.outcome, outcome, "{place}");
                send(&app, write("k")).await.assert_run(numbered(2));
            } else {
                assert_eq!(first.outcome, Outcome::Kept, "{place}");
            }
        }
    }
}

/// A replay and two refusals, whose upload no handler reads, and the application that answers them.
async fn unread() -> (Idempotency<Handler, Scripted>, [Request<()>; 3]) {
    let (layer, _) = scripted();
    let layer = layer.max_drained_bytes(200).drain_timeout(SECOND * 7);
    let app = Handler::creating("{}").under(&layer);
    send(&app, write("k")).await.assert_run("{}");
    let requests = [(Method::POST, "k"), (Method::PUT, "k"), (Method::POST, "")];
    let requests = requests.map(|(method, key)| request(method, "/vms", key).map(drop));
    (app, requests)
}

#[tokio::test(start_paused = true)]
async fn an_answer_leaves_at_once_and_a_slow_upload_is_read_to_its_end_behind_it() {
    let (app, requests) = unread().await;
    for request in requests {
        let pause = || Piece::Until(Box::pin(async { sleep(SECOND * 5).await }));
        let pieces = (0..8).flat_map(|_| [pause(), Piece::Data("x")]);
        let (upload, watch) = Frames::unknown(pieces).watched();
        let start = Instant::now();
        let answer = app.clone().oneshot(request.map(|()| upload)).await.unwrap();
        let body = answer.into_body().collect().await.unwrap();
        assert!(!body.to_bytes().is_empty());
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(watch.read_until_dropped().await, 8);
        assert_eq!(start.elapsed(), SECOND * 40);
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_behind_an_answer_is_let_go_when_it_pauses_for_too_long_or_is_too_large() {
    let (app, requests) = unread().await;
    for request in requests {
        let (parts, ()) = request.into_parts();
        let never = Piece::Until(Box::pin(std::future::pending()));
        let (upload, watch) = Frames::unknown([Piece::Data("x"), never]).watched();
        let start = Instant::now();
        let request = Request::from_parts(parts.clone(), upload);
        drop(app.clone().oneshot(request).await.unwrap());
        assert_eq!(watch.read_until_dropped().await, 1);
        assert_eq!(start.elapsed(), SECOND * 7);

        let (upload, watch) = Frames::unknown(["0123456789"; 100]).watched();
        let request = Request::from_parts(parts, upload);
        drop(app.clone().oneshot(request).await.unwrap());
        // The one that goes beyond 200 bytes is the last.
        assert_eq!(watch.read_until_dropped().await, 21);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_to_be_told_to_go_on_is_not_read_from() {
    let (app, requests) = unread().await;
    for request in requests {
        let (upload, watch) = Frames::unknown(["x", "y"]).watched();
        let mut request = request.map(|()| upload);
        let expect = "100-Continue".parse().unwrap();
        request.headers_mut().insert("expect", expect);
        drop(app.clone().oneshot(request).await.unwrap());
        assert_eq!(watch.read_until_dropped().await, 0);
    }
}
