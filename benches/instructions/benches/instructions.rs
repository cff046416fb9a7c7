//! Instruction counts of a request's ways, and of the memory store's four calls, under callgrind.

#![allow(missing_docs, reason = "the macros of the bench make public items")]

use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use gungraun::{library_benchmark, library_benchmark_group, main};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::runtime::Runtime;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_idempotency::store::{Claim, Fingerprint, Owner, Record};
use tower_idempotency::{
    CallerId, IdempotencyKey, IdempotencyLayer, MemoryStore, RecordKey, RequestBody, ResponseBody,
    Store,
};

type Body = Full<Bytes>;
type Stack = BoxCloneSyncService<Request<Body>, Response<ResponseBody<Body>>, Infallible>;

/// A service that is warm, and the requests to send: enough of them that their average hardly depends
/// on the state of the allocator and the table.
struct Warm {
    runtime: Runtime,
    stack: Stack,
    requests: Vec<Request<Body>>,
}

impl Warm {
    fn new(method: Method, key: fn(usize) -> String) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let handler = service_fn(|_: Request<RequestBody<Body>>| async {
            let mut response = Response::new(Body::from(Bytes::from_static(&[b'x'; 256])));
            *response.status_mut() = StatusCode::CREATED;
            let content_type = http::HeaderValue::from_static("application/json");
            response.headers_mut().insert("content-type", content_type);
            Ok::<_, Infallible>(response)
        });
        let (store, _) = filled();
        let service = IdempotencyLayer::new(store).layer(handler);
        let mut warm = Self {
            runtime,
            stack: BoxCloneSyncService::new(service),
            requests: (0..64).map(|n| request(method.clone(), &key(n))).collect(),
        };
        // Whatever is done once is done before the count begins.
        for key in ["warm-1", "warm-2", "replay"] {
            warm.send(request(method.clone(), key));
        }
        warm
    }

    fn send(&mut self, request: Request<Body>) -> Bytes {
        let stack = &mut self.stack;
        self.runtime.block_on(async {
            let service = stack.ready().await.expect("a service that is ready");
            let response = service.call(request).await.expect("an answer");
            response
                .into_body()
                .collect()
                .await
                .expect("a body")
                .to_bytes()
        })
    }
}

fn request(method: Method, key: &str) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri("/api/public/v1/vms")
        .header("x-api-key", "sk_test_4eC39HqLyjWDarjtT1zdp7dc")
        .header("idempotency-key", key)
        .body(Body::from(Bytes::from_static(b"{}")))
        .expect("a valid request")
}

fn fresh(n: usize) -> String {
    format!("3f2b8a70-5d8e-4c1d-9e5f-{n:012}")
}

fn replayed(_: usize) -> String {
    "replay".to_owned()
}

#[library_benchmark]
#[bench::pass_through(Warm::new(Method::GET, fresh))]
#[bench::first_write(Warm::new(Method::POST, fresh))]
#[bench::replay(Warm::new(Method::POST, replayed))]
fn requests_64(mut warm: Warm) -> Warm {
    for request in std::mem::take(&mut warm.requests) {
        black_box(warm.send(request));
    }
    // Given back, so that dropping the stack is not counted.
    warm
}

/// A store with many records, and keys that may be claimed in it: enough of them that their average
/// hardly depends on where each falls in the table.
struct Keys {
    store: MemoryStore,
    keys: Vec<(RecordKey, Owner)>,
    record: Record,
}

fn keys(claimed: bool) -> Keys {
    let (store, record) = filled();
    let keys = (0..256).map(|n| (key(&format!("key-{n}")), Owner::new()));
    let keys: Vec<_> = keys.collect();
    for (key, owner) in keys.iter().filter(|_| claimed) {
        let claim = Claim::new(*owner, record.fingerprint());
        let _ = now(store.begin(key, &claim, LEASE));
    }
    Keys {
        store,
        keys,
        record,
    }
}

/// Makes a store of a size at which the next key hardly ever makes a part of its table grow: which
/// part that is depends on a seed that each process draws.
fn filled() -> (MemoryStore, Record) {
    // The clock stands still: each second that passes here is one more bucket in the order of expiry.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let _guard = runtime.enter();
    let store = MemoryStore::new();
    let fingerprint = Fingerprint::from_bytes([7; 32]);
    let record = Record::new(fingerprint, StatusCode::CREATED, [], Some(&[b'x'; 256]));
    for n in 0..80_000 {
        let (key, owner) = (key(&format!("record-{n}")), Owner::new());
        let _ = now(store.begin(&key, &Claim::new(owner, fingerprint), LEASE));
        let _ = now(store.complete(&key, owner, &record, TTL));
    }
    (store, record)
}

fn key(text: &str) -> RecordKey {
    let key = IdempotencyKey::new(text).expect("a valid key");
    RecordKey::new(&CallerId::new("alice"), &key)
}

/// Runs a future of the memory store, which never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("the memory store never waits"),
    }
}

#[library_benchmark]
#[bench::of_256_keys(keys(false))]
fn begin(of: Keys) -> Keys {
    for (key, owner) in &of.keys {
        let claim = Claim::new(*owner, of.record.fingerprint());
        let _ = black_box(now(of.store.begin(key, &claim, LEASE)));
    }
    of
}

#[library_benchmark]
#[bench::of_256_keys(keys(true))]
fn complete(of: Keys) -> Keys {
    for (key, owner) in &of.keys {
        let _ = black_box(now(of.store.complete(key, *owner, &of.record, TTL)));
    }
    of
}

#[library_benchmark]
#[bench::of_256_keys(keys(true))]
fn renew(of: Keys) -> Keys {
    for (key, owner) in &of.keys {
        let _ = black_box(now(of.store.renew(key, *owner, LEASE)));
    }
    of
}

#[library_benchmark]
#[bench::of_256_keys(keys(true))]
fn release(of: Keys) -> Keys {
    for (key, owner) in &of.keys {
        let _ = black_box(now(of.store.release(key, *owner)));
    }
    of
}

const LEASE: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(24 * 60 * 60);

library_benchmark_group!(name = requests, benchmarks = requests_64);
library_benchmark_group!(name = store, benchmarks = [begin, complete, renew, release]);
main!(library_benchmark_groups = [requests, store]);
