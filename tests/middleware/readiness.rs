//! The instance that was polled ready is the one that is called, and a slot that is not used goes
//! back. Every other test checks the first, too: the shared handler panics when it was not ready.

use http::{Method, Request, Response};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::limit::ConcurrencyLimit;
use tower::{Layer, Service, ServiceExt};
use tower_idempotency::{Idempotency, Outcome, RequestBody};
use tower_test::mock;

use crate::support::{
    Answer, Call, Failure, Fault, Frames, Gate, Handler, Piece, Scripted, created, numbered,
    request, scripted, write,
};

type Wrapped = Request<RequestBody<Frames>>;
type Limited = Idempotency<ConcurrencyLimit<Handler>, Scripted>;

/// A layer around a handler that takes one request at a time.
fn one_at_a_time(handler: &Handler, script: impl FnOnce(&Scripted)) -> Limited {
    let (layer, store) = scripted();
    script(&store);
    layer.layer(ConcurrencyLimit::new(handler.clone(), 1))
}

#[track_caller]
fn assert_slot_is_free(app: &Limited) {
    let mut other = app.clone();
    assert_ready_ok!(task::spawn(()).enter(|context, _| other.poll_ready(context)));
}

#[tokio::test(start_paused = true)]
async fn readiness_is_the_inner_services_and_the_ready_instance_is_called() {
    let (layer, _) = scripted();
    let (mut service, mut handle): (_, mock::Handle<Wrapped, Response<Frames>>) =
        mock::spawn_layer(layer);
    handle.allow(0);
    assert_pending!(service.poll_ready::<Request<Frames>>());
    handle.allow(1);
    assert_ready_ok!(service.poll_ready::<Request<Frames>>());
    let mut response = task::spawn(service.call(write("k")));
    assert_pending!(response.poll());
    let (_, reply) = handle.next_request().await.unwrap();
    reply.send_response(created("{}").unwrap());
    Answer::read(response.await.unwrap()).await.assert_run("{}");
    // What is left in its place has not been ready yet.
    assert_pending!(service.poll_ready::<Request<Frames>>());
}

#[tokio::test(start_paused = true)]
async fn an_error_of_readiness_is_passed_on() {
    let (layer, _) = scripted();
    let (mut service, mut handle): (_, mock::Handle<Wrapped, Response<Frames>>) =
        mock::spawn_layer(layer);
    handle.send_error(Failure("not ready, ever"));
    let error = assert_ready_err!(service.poll_ready::<Request<Frames>>());
    assert_eq!(error.to_string(), "not ready, ever");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_replays_and_refusals_do_not_use_up_a_limit_of_one() {
    let handler = Handler::creating("{}");
    let app = one_at_a_time(&handler, |_| {});
    let mut requests = vec![write("k")];
    for _ in 0..100 {
        requests.push(write("k"));
        requests.push(write(""));
        requests.push(request(Method::PUT, "/vms", "k"));
    }
    // Each on an instance of its own, and all instances stay, with whatever they hold.
    let mut instances = Vec::new();
    let mut outcomes = Vec::new();
    for request in requests {
        let mut instance = app.clone();
        assert_ready_ok!(task::spawn(()).enter(|context, _| instance.poll_ready(context)));
        let response = instance.call(request).await.unwrap();
        outcomes.push(Outcome::of(response.extensions()));
        instances.push((instance, response));
    }
    let count = |outcome| outcomes.iter().filter(|one| **one == outcome).count();
    assert_eq!(count(Outcome::Replayed), 100);
    assert_eq!(count(Outcome::KeyReused), 100);
    assert_eq!(handler.runs(), 1);
    assert_slot_is_free(&app);
}

#[tokio::test(start_paused = true)]
async fn a_replay_and_a_refusal_do_not_wait_for_their_upload_and_give_their_slot_back() {
    let handler = Handler::creating("{}");
    let mut app = one_at_a_time(&handler, |_| {});
    let first = app.ready().await.unwrap().call(write("k")).await.unwrap();
    drop(first);
    for request in [write("k"), write(""), request(Method::PUT, "/vms", "k")] {
        let gate = Gate::new();
        let at_gate = gate.clone();
        let until = Piece::Until(Box::pin(async move { at_gate.pass().await }));
        let request = request.map(|_| Frames::unknown([until]));
        let mut response = task::spawn(app.ready().await.unwrap().call(request));
        assert_ready_ok!(response.poll());
        assert_slot_is_free(&app);
        // The upload is read behind the answer.
        gate.reached().await;
    }
    assert_eq!(handler.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_held_until_the_handler_is_done_and_not_longer() {
    let gate = Gate::new();
    let handler = Handler::at(&gate);
    let app = one_at_a_time(&handler, |store| store.always(Call::Begin, Fault::Pend(1)));
    let mut first = app.clone();
    let mut response = task::spawn(first.ready().await.unwrap().call(write("k")));
    for _ in 0..3 {
        assert_pending!(response.poll());
        let mut other = app.clone();
        assert_pending!(task::spawn(()).enter(|context, _| other.poll_ready(context)));
    }
    gate.open();
    let response = response.await.unwrap();
    assert_slot_is_free(&app);
    Answer::read(response).await.assert_run(numbered(1));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_passes_through_goes_to_the_ready_instance() {
    let (layer, _) = scripted();
    let (mut service, mut handle): (_, mock::Handle<Wrapped, Response<Frames>>) =
        mock::spawn_layer(layer);
    handle.allow(1);
    assert_ready_ok!(service.poll_ready::<Request<Frames>>());
    let get = request(Method::GET, "/vms", "k");
    let response = service.call(get);
    let (_, reply) = handle.next_request().await.unwrap();
    reply.send_response(created("{}").unwrap());
    let response = response.await.unwrap();
    assert_eq!(Answer::read(response).await.body, "{}");
}
