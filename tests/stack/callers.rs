//! Who the caller is: credentials that differ, that are shared, and that stand for several tenants.

use axum::Router;
use axum::extract::Extension;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use http::header::{COOKIE, HOST};
use http::request::Parts;
use tower_idempotency::{CallerId, IdempotencyLayer, MemoryStore};

use crate::client::{anonymous, send, with};
use crate::parts::{Api, User, handlers, sharing};

/// The handlers under a layer that identifies its callers by this function, or by default.
fn app(caller: Option<fn(&Parts) -> Option<CallerId>>) -> Router {
    let layer = IdempotencyLayer::new(MemoryStore::new());
    let layer = match caller {
        Some(caller) => layer.caller(caller),
        None => layer,
    };
    sharing(handlers().layer(layer), &Api::new())
}

fn header(parts: &Parts, name: http::HeaderName) -> Option<&[u8]> {
    parts.headers.get(name).map(http::HeaderValue::as_bytes)
}

#[tokio::test(start_paused = true)]
async fn a_token_renewed_between_a_request_and_its_retry_is_another_caller_by_default() {
    let tokens = ["Bearer first", "Bearer renewed"];
    let by_default = app(None);
    for token in tokens {
        let request = with(anonymous("/vms", "k"), [("authorization", token)]);
        assert_eq!(send(&by_default, request).await.seen(), (201, false));
    }

    async fn authenticate(mut request: axum::extract::Request, next: Next) -> Response {
        // Both tokens are Alice's.
        request.extensions_mut().insert(User("alice"));
        next.run(request).await
    }
    let by_user = app(Some(crate::parts::caller)).layer(from_fn(authenticate));
    for (token, replayed) in tokens.into_iter().zip([false, true]) {
        let request = with(anonymous("/vms", "k"), [("authorization", token)]);
        assert_eq!(send(&by_user, request).await.seen(), (201, replayed));
    }
}

#[tokio::test(start_paused = true)]
async fn all_users_behind_one_applications_key_are_one_caller_by_default() {
    let by_default = app(None);
    let by_session = app(Some(|parts| header(parts, COOKIE).map(CallerId::new)));
    for (session, replayed) in [("session=alice", false), ("session=bob", true)] {
        let request = || {
            let request = anonymous("/vms", "k");
            with(request, [("x-api-key", "the-app"), ("cookie", session)])
        };
        // Bob gets Alice's answer.
        assert_eq!(send(&by_default, request()).await.seen(), (201, replayed));
        assert_eq!(send(&by_session, request()).await.seen(), (201, false));
    }
}

#[tokio::test(start_paused = true)]
async fn one_credential_for_several_hosts_is_one_caller_by_default() {
    let by_default = app(None);
    let by_host = app(Some(|parts| {
        // Hashed one by one, so that no two pairs meet.
        let user = CallerId::from_credentials(&parts.headers)?;
        let host = CallerId::new(header(parts, HOST)?);
        let both = [*user.as_bytes(), *host.as_bytes()].concat();
        Some(CallerId::new(both))
    }));
    for (host, replayed) in [("one.example.com", false), ("two.example.com", true)] {
        let request = || with(anonymous("/vms", "k"), [("x-api-key", "k"), ("host", host)]);
        assert_eq!(send(&by_default, request()).await.seen(), (201, replayed));
        assert_eq!(send(&by_host, request()).await.seen(), (201, false));
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_finds_the_key_where_there_is_one() {
    use tower_idempotency::IdempotencyKey;

    async fn echo(key: Option<Extension<IdempotencyKey>>) -> String {
        key.map_or_else(String::new, |Extension(key)| key.as_str().to_owned())
    }
    let app = Router::new()
        .route("/echo", axum::routing::post(echo))
        .layer(IdempotencyLayer::new(MemoryStore::new()));
    let keyed = with(anonymous("/echo", "order-1"), [("x-api-key", "k")]);
    assert_eq!(send(&app, keyed).await.text(), "order-1");
    let mut keyless = anonymous("/echo", "order-1");
    keyless.headers_mut().remove("idempotency-key");
    assert_eq!(send(&app, keyless).await.text(), "");
}
