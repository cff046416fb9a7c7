//! The layer in other people's stacks, and without any runtime.

use std::pin::Pin;
use std::task::Poll;

use axum::Router;
use axum::routing::post;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tokio_test::task;
use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, ServiceExt};
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tower_idempotency::{
    IdempotencyKey, IdempotencyLayer, MemoryStore, Outcome, RequestBody, ResponseBody,
};
use tower_test::mock;

use crate::support::{
    Answer, Call, Failure, Fault, Frames, Handled, Handler, Piece, created, pend, scripted, send,
    write,
};

#[tokio::test(start_paused = true)]
async fn under_axums_router_a_handler_runs_once_and_may_ask_for_the_key() {
    use axum::Extension;
    use axum::body::Body;
    let handler = |Extension(key): Extension<IdempotencyKey>| async move {
        (StatusCode::CREATED, key.as_str().to_owned())
    };
    let app = Router::new()
        .route("/vms", post(handler))
        .layer(IdempotencyLayer::new(MemoryStore::new()));
    for outcome in [Outcome::Kept, Outcome::Replayed] {
        let request = Request::post("/vms")
            .header("authorization", "Bearer t")
            .header("idempotency-key", "order-4711")
            .body(Body::empty())
            .unwrap();
        let answer = Answer::read(app.clone().oneshot(request).await.unwrap()).await;
        assert_eq!(
            (answer.status, answer.outcome),
            (StatusCode::CREATED, outcome)
        );
        assert_eq!(answer.body, "order-4711");
    }
}

#[tokio::test(start_paused = true)]
async fn between_other_layers_of_a_service_builder_it_replays() {
    let (layer, _) = scripted();
    let handler = Handler::creating("{}");
    let limit = TimeoutLayer::with_status_code(
        StatusCode::GATEWAY_TIMEOUT,
        std::time::Duration::from_secs(1),
    );
    let app = ServiceBuilder::new()
        .layer(limit)
        .layer(layer)
        .layer(TraceLayer::new_for_http())
        .concurrency_limit(1)
        .service(handler.clone());
    // The service is `Clone + Send + Sync`, and so can be boxed.
    let app: BoxCloneSyncService<Request<Frames>, Response<ResponseBody<_>>, Failure> =
        BoxCloneSyncService::new(app);
    assert_eq!(send(&app, write("k")).await.outcome, Outcome::Kept);
    send(&app, write("k")).await.assert_replay("{}");
    assert_eq!(handler.runs(), 1);
}

#[test]
fn on_a_runtime_without_time_requests_run_are_kept_and_go_on_without_their_client() {
    let (layer, store) = scripted();
    for call in [Call::Begin, Call::Complete, Call::Release] {
        store.always(call, Fault::Pend(3));
    }
    let handler = Handler::new(|_, _| async {
        pend(5).await;
        let pieces = ["{".into(), Piece::Pend, "}".into()];
        Ok(Response::new(Frames::unknown(pieces)))
    });
    let app = handler.under(&layer);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let first = app.clone().oneshot(write("k")).await.unwrap();
        let first = first.into_body().collect().await.unwrap();
        assert_eq!(first.to_bytes(), "{}");
        let replay = app.clone().oneshot(write("k")).await.unwrap();
        assert_eq!(Outcome::of(replay.extensions()), Outcome::Replayed);

        let mut left = task::spawn(app.clone().oneshot(write("left")));
        while handler.runs() < 2 {
            assert!(left.poll().is_pending());
        }
        drop(left);
        while layer.detached().count() > 0 {
            tokio::task::yield_now().await;
        }
        let replay = app.clone().oneshot(write("left")).await.unwrap();
        assert_eq!(Outcome::of(replay.extensions()), Outcome::Replayed);
        assert_eq!(handler.runs(), 2);
    });
}

#[tokio::test(start_paused = true)]
async fn around_a_mock_it_sends_one_request_only() {
    let (layer, _) = scripted();
    let (mut service, mut handle): (_, mock::Handle<Request<RequestBody<Frames>>, _>) =
        mock::spawn_layer(layer);
    handle.allow(2);
    assert!(service.poll_ready::<Request<Frames>>().is_ready());
    let first = tokio::spawn(service.call(write("k")));
    let (request, reply) = handle.next_request().await.unwrap();
    let key = request.extensions().get::<IdempotencyKey>().unwrap();
    assert_eq!(key.as_str(), "k");
    reply.send_response(created("{}").unwrap());
    Answer::read(first.await.unwrap().unwrap())
        .await
        .assert_run("{}");

    assert!(service.poll_ready::<Request<Frames>>().is_ready());
    Answer::read(service.call(write("k")).await.unwrap())
        .await
        .assert_replay("{}");
    assert!(handle.poll_request().is_pending());
}

#[test]
fn without_a_runtime_the_handlers_response_comes_and_is_replayed() {
    let exact: fn() -> Frames = || Frames::exact(["a", "b"]);
    let unknown: fn() -> Frames = || Frames::unknown(["a", "b"]);
    for body in [exact, unknown] {
        let (layer, store) = scripted();
        for call in [Call::Begin, Call::Complete, Call::Release] {
            store.always(call, Fault::Pend(2));
        }
        let (reply, replied) = oneshot::channel();
        let replied = std::sync::Mutex::new(Some(replied));
        let handler = Handler::new(move |_, _| {
            let replied = replied.lock().unwrap().take();
            async move {
                replied.unwrap().await.unwrap();
                Ok(Response::new(body()))
            }
        });
        let app = handler.under(&layer);
        let mut first = task::spawn(send(&app, write("k")));
        for _ in 0..5 {
            assert!(first.poll().is_pending());
        }
        assert_eq!(handler.runs(), 1);
        by_hand(send(&app, write("k"))).assert_in_progress();
        by_hand(send(&app, write("")));
        reply.send(()).unwrap();
        by_hand(first).assert_run("ab");
        by_hand(send(&app, write("k"))).assert_replay("ab");
        assert_eq!(handler.runs(), 1);
    }
}

#[test]
fn without_a_runtime_a_request_that_is_dropped_or_fails_frees_its_key() {
    let finish: [fn() -> Handled; 3] = [
        || created("{}"),
        || Ok(Response::new(Frames::unknown(["{}"]))),
        || Err(Failure("the handler fails")),
    ];
    for finish in finish {
        for polls in 1..6 {
            let (layer, _) = scripted();
            let detached = layer.detached();
            let handler = Handler::new(move |run, _| async move {
                pend(3).await;
                if run == 1 { finish() } else { created("{}") }
            });
            let app = handler.under(&layer);
            let mut first = task::spawn(app.clone().oneshot(write("k")));
            let mut kept = false;
            for _ in 0..polls {
                if let Poll::Ready(done) = first.poll() {
                    // Its body is not read.
                    let outcome = done.map(|response| Outcome::of(response.extensions()));
                    kept = outcome == Ok(Outcome::Kept);
                    break;
                }
            }
            drop(first);
            // Nobody is there to carry it on.
            assert_eq!(detached.count(), 0);
            let again = by_hand(send(&app, write("k")));
            assert_eq!(again.body, "{}");
            let replayed = again.outcome == Outcome::Replayed;
            assert_eq!(replayed, kept, "{polls} polls, {again:?}");
        }
    }
}

#[test]
fn without_a_runtime_a_store_that_fails_lets_the_handler_run() {
    use tower_idempotency::store::StoreErrorKind::Unavailable;
    for call in [Call::Begin, Call::Complete, Call::Release] {
        for fault in [Fault::Fail(Unavailable), Fault::FailAfter(Unavailable)] {
            let (layer, store) = scripted();
            store.always(call, fault);
            let app = Handler::creating("{}").under(&layer);
            assert_eq!(by_hand(send(&app, write("k"))).body, "{}");
        }
    }
}

/// Polls a future until it is ready; whatever it waits for must wake it at once.
fn by_hand<F: Future>(future: F) -> F::Output {
    let mut future = task::spawn(Box::pin(future) as Pin<Box<dyn Future<Output = F::Output> + '_>>);
    for _ in 0..100 {
        if let Poll::Ready(output) = future.poll() {
            return output;
        }
        assert!(future.is_woken(), "nothing would poll it again");
    }
    panic!("polled 100 times without an end");
}
