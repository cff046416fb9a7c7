//! The whole stack: what each layer in its place does to refusals and replays.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Method, Request};
use support::Log;
use tower_idempotency::{Detached, IdempotencyLayer, MemoryStore, Outcome};

use crate::client::{ALICE, Answer, ORIGIN, anonymous, post, send, spawn, with};
use crate::parts::{Api, caller, handlers, sharing};
use crate::stack::stack;

/// The stack around the handlers, and what the tests look at.
pub(crate) struct Whole {
    pub(crate) app: Router,
    pub(crate) api: Arc<Api>,
    store: MemoryStore,
    pub(crate) detached: Detached,
}

impl Whole {
    pub(crate) fn new() -> Self {
        let store = MemoryStore::new();
        let layer = IdempotencyLayer::new(store.clone()).caller(caller);
        let (api, detached) = (Api::new(), layer.detached());
        Self {
            app: sharing(stack(handlers(), layer), &api),
            api,
            store,
            detached,
        }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        send(&self.app, request).await
    }

    /// Lets what has been left by its client come to its end.
    pub(crate) async fn finish(&self) {
        let long = Duration::from_secs(60);
        self.detached.wait(long).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_runs_once_and_is_replayed() {
    let whole = Whole::new();
    let first = whole.send(post("/vms", "k")).await;
    assert_eq!(first.seen(), (201, false));
    let again = whole.send(post("/vms", "k")).await;
    assert_eq!(again.seen(), (201, true));
    assert_eq!(again.outcome, Outcome::Replayed);
    assert_eq!(again.body, first.body);
    assert_eq!(whole.api.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_request_has_an_id_of_its_own_also_a_replay_and_a_refusal() {
    let whole = Whole::new();
    let mut ids = Vec::new();
    for (target, key) in [("/vms", "k"), ("/vms", "k"), ("/slow", "k"), ("/vms", "")] {
        ids.push(
            whole
                .send(post(target, key))
                .await
                .header("x-request-id")
                .to_owned(),
        );
    }
    assert!(ids.iter().all(|id| !id.is_empty()), "{ids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    let own = with(post("/vms", "k"), [("x-request-id", "the-clients-own")]);
    let replay = whole.send(own).await;
    assert_eq!(replay.header("x-request-id"), "the-clients-own");
    assert_eq!(replay.seen(), (201, true));
}

#[tokio::test(start_paused = true)]
async fn replays_and_refusals_are_traced_like_any_answer() {
    let log = Log::begin();
    let whole = Whole::new();
    for (target, key, status) in [
        ("/vms", "k", "status=201"),
        ("/vms", "k", "status=201"),
        ("/panic", "k", "status=422"),
        ("/vms", "", "status=400"),
    ] {
        whole.send(post(target, key)).await;
        let lines = log.take();
        let mut lines = lines.lines().filter(|line| line.contains("finished"));
        let line = lines.next().expect("a line for each answer");
        assert!(line.contains(status), "{line}");
        assert_eq!(lines.next(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn every_answer_may_be_read_by_the_page_that_asked() {
    let whole = Whole::new();
    let running = spawn(&whole.app, post("/slow", "running"));
    whole.api.reached(1).await;
    let cases = [
        (post("/vms", "k"), (201, false)),
        (post("/vms", "k"), (201, true)),
        (post("/slow", "running"), (409, false)),
        (post("/panic", "k"), (422, false)),
        (post("/vms", ""), (400, false)),
        (anonymous("/vms", "k"), (401, false)),
        (post("/panic", "p"), (500, false)),
        (post("/slow", "late"), (504, false)),
    ];
    for (request, seen) in cases {
        let answer = whole.send(with(request, [ORIGIN])).await;
        assert_eq!(answer.seen(), seen);
        assert_readable(&answer);
    }
    whole.api.quota.store(0, Ordering::SeqCst);
    let refused = whole.send(with(post("/vms", "k"), [ORIGIN])).await;
    assert_eq!(refused.seen(), (429, false));
    assert_readable(&refused);
    running.abort();
}

#[track_caller]
fn assert_readable(answer: &Answer) {
    assert_eq!(answer.header("access-control-allow-origin"), ORIGIN.1);
    let exposed = answer.header("access-control-expose-headers");
    for name in [
        "idempotency-replayed",
        "idempotency-replay-body",
        "retry-after",
    ] {
        assert!(exposed.contains(name), "{exposed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_is_allowed_to_send_the_key_before_it_has_shown_a_credential() {
    let whole = Whole::new();
    let preflight = Request::builder()
        .method(Method::OPTIONS)
        .uri("/vms")
        .header("origin", ORIGIN.1)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "idempotency-key");
    let answer = whole.send(preflight.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 200);
    let allowed = answer.header("access-control-allow-headers");
    assert!(allowed.contains("idempotency-key"), "{allowed}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_gets_an_encoding_that_it_accepts_whatever_the_first_one_accepted() {
    for first in ["gzip", "deflate", ""] {
        let whole = Whole::new();
        for (run, accepted) in [first, "gzip", "deflate", "", "br"].into_iter().enumerate() {
            let request = with(post("/vms", "k"), [("accept-encoding", accepted)]);
            let answer = whole.send(request).await;
            assert_eq!(answer.seen(), (201, run > 0));
            let encoding = if accepted == "br" { "" } else { accepted };
            assert_eq!(answer.header("content-encoding"), encoding);
            let start: &[u8] = match encoding {
                "gzip" => &[0x1f, 0x8b],
                "deflate" => &[0x78],
                _ => b"{\"name\":\"web-1 web-1",
            };
            assert!(answer.body.starts_with(start), "{accepted}: {answer:?}");
        }
        assert_eq!(whole.api.runs(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_followed_with_the_same_key() {
    let whole = Whole::new();
    let moved = whole.send(post("/old-vms", "k")).await;
    assert_eq!(moved.status, 308);
    assert!(
        whole.store.is_empty(),
        "the redirect has not claimed the key"
    );
    for replayed in [false, true] {
        let answer = whole.send(post(moved.header("location"), "k")).await;
        assert_eq!(answer.seen(), (201, replayed));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_replayed_to_a_revoked_credential_and_a_new_one_gets_it() {
    let whole = Whole::new();
    whole.send(post("/vms", "k")).await;
    let users = || whole.api.users.lock().unwrap();
    users().remove(ALICE.1);
    assert_eq!(whole.send(post("/vms", "k")).await.seen(), (401, false));
    users().insert("Bearer alice-2".to_owned(), "alice");
    let renewed = with(post("/vms", "k"), [("authorization", "Bearer alice-2")]);
    assert_eq!(whole.send(renewed).await.seen(), (201, true));
    assert_eq!(whole.api.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn strangers_can_not_fill_the_store() {
    let whole = Whole::new();
    for key in ["a", "b", "c"] {
        let answer = whole.send(anonymous("/vms", key)).await;
        assert_eq!(answer.status, 401);
    }
    assert!(whole.store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_retry_counts_against_the_rate_limit_and_its_429_is_not_the_answer() {
    let whole = Whole::new();
    let quota = |left| whole.api.quota.store(left, Ordering::SeqCst);
    quota(2);
    for seen in [(201, false), (201, true), (429, false)] {
        assert_eq!(whole.send(post("/vms", "k")).await.seen(), seen);
    }
    assert_eq!(whole.send(post("/vms", "new")).await.seen(), (429, false));
    quota(2);
    assert_eq!(whole.send(post("/vms", "k")).await.seen(), (201, true));
    assert_eq!(whole.send(post("/vms", "new")).await.seen(), (201, false));
}
