//! A client that leaves in the middle: its request is carried on, and nothing runs twice.

use std::time::Duration;

use http::{Response, StatusCode};
use http_body_util::BodyExt;
use tokio::runtime;
use tokio_test::task;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_http::timeout::TimeoutLayer;
use tracing::Instrument;

use crate::support::{
    Answer, Call, Fault, Frames, Gate, Handler, Piece, created, numbered, pend, scripted, send,
    write,
};

const SOON: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_request_whose_client_hangs_up_is_carried_on_and_replayed() {
    let (layer, store) = scripted();
    store.always(Call::Complete, Fault::Pend(3));
    let detached = layer.detached();
    let gate = Gate::new();
    let handler = Handler::at(&gate);
    let app = handler.under(&layer);

    let first = tokio::spawn(app.clone().oneshot(write("k")));
    gate.reached().await;
    assert_eq!(
        detached.count(),
        0,
        "nothing is spawned for a client that stays"
    );
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());

    assert_eq!(detached.count(), 1);
    send(&app, write("k")).await.assert_in_progress();
    gate.open();
    detached.wait(SOON).await.unwrap();
    send(&app, write("k")).await.assert_replay(numbered(1));
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outer_timeout_means_finish_in_the_background() {
    let (layer, _) = scripted();
    let detached = layer.detached();
    let handler = Handler::new(|_, _| async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        created("{}")
    });
    let limit = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, SOON);
    let app = ServiceBuilder::new()
        .layer(limit)
        .layer(layer)
        .service(handler.clone());

    let first = send(&app, write("k")).await;
    assert_eq!(first.status, StatusCode::GATEWAY_TIMEOUT);
    send(&app, write("k")).await.assert_in_progress();
    detached.wait(3 * SOON).await.unwrap();
    send(&app, write("k")).await.assert_replay("{}");
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_response_body_dropped_half_read_is_read_on_and_kept_whole() {
    let (layer, _) = scripted();
    let detached = layer.detached();
    let gate = Gate::new();
    let at_gate = gate.clone();
    let handler = Handler::new(move |_, _| {
        let gate = at_gate.clone();
        let until = Piece::Until(Box::pin(async move { gate.pass().await }));
        let body = Frames::unknown([Piece::Data("a"), until, Piece::Data("b")]);
        async { Ok(Response::new(body)) }
    });
    let app = handler.under(&layer);
    let first = app.clone().oneshot(write("k")).await.unwrap();
    let mut body = first.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    drop(body);

    assert_eq!(detached.count(), 1);
    send(&app, write("k")).await.assert_in_progress();
    gate.open();
    detached.wait(SOON).await.unwrap();
    send(&app, write("k")).await.assert_replay("ab");
    assert_eq!(handler.runs(), 1);
}

#[test]
fn a_response_dropped_outside_the_runtime_goes_on_in_the_one_it_began_in() {
    let (layer, _) = scripted();
    let detached = layer.detached();
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let exact: fn() -> Frames = || Frames::exact(["ab"]);
    let unknown: fn() -> Frames = || Frames::unknown(["a", "b"]);
    for (key, body) in [("exact", exact), ("unknown", unknown)] {
        let handler = Handler::new(move |_, _| async move {
            pend(3).await;
            Ok(Response::new(body()))
        });
        let mut app = handler.under(&layer);
        let mut future = {
            let _context = runtime.enter();
            assert!(
                task::spawn(())
                    .enter(|context, _| app.poll_ready(context))
                    .is_ready()
            );
            task::spawn(app.call(write(key)))
        };
        // Polled in another thread, and dropped there.
        std::thread::scope(|scope| {
            scope.spawn(move || assert!(future.poll().is_pending()));
        });
        assert_eq!(detached.count(), 1);
        runtime.block_on(async {
            detached.wait(SOON).await.unwrap();
            send(&app, write(key)).await.assert_replay("ab");
        });
        assert_eq!(handler.runs(), 1);
    }
}

tokio::task_local! {
    static REQUEST_ID: u32;
}

#[tokio::test(start_paused = true)]
async fn a_handler_keeps_its_task_locals_and_its_span() {
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry());
    let (layer, store) = scripted();
    store.always(Call::Begin, Fault::Pend(2));
    let handler = Handler::new(|_, _| async {
        for _ in 0..2 {
            assert_eq!(REQUEST_ID.get(), 7);
            let span = tracing::Span::current();
            assert_eq!(
                span.metadata().map(tracing::Metadata::name),
                Some("request")
            );
            pend(1).await;
        }
        created("{}")
    });
    let app = handler.under(&layer);
    let request = send(&app, write("k")).instrument(tracing::info_span!("request"));
    REQUEST_ID.scope(7, request).await.assert_run("{}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_upload_that_never_ends_is_no_detached_work() {
    let (layer, _) = scripted();
    let detached = layer.detached();
    let handler = Handler::creating("{}");
    let app = handler.under(&layer);
    // The upload of the refused request never ends; its answer is there all the same.
    let upload = Frames::unknown([Piece::Until(Box::pin(std::future::pending()))]);
    let request = write("").map(|_| upload);
    let mut refusal = task::spawn(layer.layer(handler.clone()).oneshot(request));
    assert!(refusal.poll().is_ready());
    assert_eq!(detached.count(), 0);
    let answer = app.clone().oneshot(write("k")).await.unwrap();
    Answer::read(answer).await.assert_run("{}");
    assert_eq!(handler.runs(), 1);
}
