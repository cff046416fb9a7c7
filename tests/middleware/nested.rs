//! A layer inside another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderName, Method, Request, Response};
use tower::{Layer, Service, service_fn};
use tower_idempotency::{IdempotencyLayer, MemoryStore, NotKept, Outcome, RequestBody};

use crate::support::{
    Failure, Frames, Handled, created, request, responding, scripted, send, write,
};

/// A handler that answers well in its odd runs only, and the count of its runs.
fn handler<B: Send + 'static>() -> (
    impl Service<Request<B>, Response = Response<Frames>, Error = Failure, Future: Send>
    + Clone
    + Send
    + 'static,
    Arc<AtomicUsize>,
) {
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let handler = service_fn(move |_| {
        let run = count.fetch_add(1, Ordering::SeqCst);
        let handled: Handled = match run % 2 {
            0 => created("{}"),
            _ => responding(500, Frames::default()),
        };
        async { handled }
    });
    (handler, runs)
}

type Twice = RequestBody<RequestBody<Frames>>;

#[tokio::test(start_paused = true)]
async fn a_layer_inside_another_one_lets_its_requests_pass() {
    let shared = Arc::new(MemoryStore::new());
    let apart = Arc::new(MemoryStore::new());
    for (key, inner_store) in [("same store", &shared), ("another store", &apart)] {
        let outer = IdempotencyLayer::new(Arc::clone(&shared));
        let inner = IdempotencyLayer::new(Arc::clone(inner_store)).require_key(true);
        let (handler, runs) = handler::<Twice>();
        let app = outer.layer(inner.layer(handler));
        send(&app, write(key)).await.assert_run("{}");
        send(&app, write(key)).await.assert_replay("{}");
        let failed = send(&app, write(&format!("{key}, failing"))).await;
        assert_eq!(failed.outcome, Outcome::NotKept(NotKept::Rule));
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }
    assert_eq!((shared.len(), apart.len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn the_outcome_of_a_layer_inside_is_reported_where_the_outer_one_lets_a_request_pass() {
    let (inner, _) = scripted();
    let by_header = scripted()
        .0
        .header_name(HeaderName::from_static("x-other-key"));
    let by_caller = scripted().0.caller(|_| None);
    for (n, outer) in [by_header, by_caller].into_iter().enumerate() {
        let (handler, _) = handler::<Twice>();
        let app = outer.layer(inner.layer(handler));
        let key = format!("k{n}");
        send(&app, write(&key)).await.assert_run("{}");
        send(&app, write(&key)).await.assert_replay("{}");
        // Neither has anything to protect it by.
        let mut unprotected = write("no caller");
        unprotected.headers_mut().remove("x-api-key");
        let outcome = send(&app, unprotected).await.outcome;
        assert!(matches!(outcome, Outcome::PassedThrough(_)), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_inside_guards_what_the_outer_one_lets_pass() {
    let (outer, outer_store) = scripted();
    let (inner, inner_store) = scripted();
    let outer = outer.methods([Method::DELETE]);
    let (handler, runs) = handler::<Twice>();
    let app = outer.layer(inner.layer(handler));
    send(&app, write("k")).await.assert_run("{}");
    send(&app, write("k")).await.assert_replay("{}");
    let delete = send(&app, request(Method::DELETE, "/vms/1", "k")).await;
    assert_eq!(delete.outcome, Outcome::NotKept(NotKept::Rule));
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert_eq!(outer_store.memory.len(), 0);
    assert_eq!(inner_store.memory.len(), 1);
}
