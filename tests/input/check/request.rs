//! A whole request through the layer, sent twice and then with other words, over any handler.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, response};
use tower::{Layer, ServiceExt, service_fn};
use tower_idempotency::store::{Begin, Claim, Owner, Ownership, Record};
use tower_idempotency::{
    IdempotencyKey, IdempotencyLayer, MemoryStore, Outcome, RecordKey, RequestBody, Store,
    StoreError, is_kept_by_default,
};

use super::script::{Read, Script, read};

/// A request, and what the handler does with it.
#[derive(Clone, Debug)]
pub struct Input {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub upload: Script,
    pub reads_upload: bool,
    pub status: StatusCode,
    pub response_headers: HeaderMap,
    pub response: Script,
}

/// Reads the head of the request, its body, the head of the response (`reads`, in front of the
/// status, says that the handler reads the request's body), and its body, with an empty line
/// between any two.
pub fn parse(text: &[u8]) -> Option<Input> {
    let (head, rest) = super::split(text);
    let (upload, rest) = super::split(rest);
    let (response_head, response) = super::split(rest);
    let (line, headers) = split_line(head);
    let space = line.iter().position(|byte| *byte == b' ')?;
    let (status, response_headers) = split_line(response_head);
    let read_status = status.strip_prefix(b"reads ");
    Some(Input {
        method: Method::from_bytes(&line[..space]).ok()?,
        uri: Uri::try_from(&line[space + 1..]).ok()?,
        headers: super::map(&super::fields(headers)),
        upload: Script::parse(upload),
        reads_upload: read_status.is_some(),
        status: StatusCode::from_bytes(read_status.unwrap_or(status)).ok()?,
        response_headers: super::map(&super::fields(response_headers)),
        response: Script::parse(response),
    })
}

fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| *byte == b'\n');
    end.map_or((text, &[]), |end| (&text[..end], &text[end + 1..]))
}

pub fn check(input: &Input) {
    let mut input = input.clone();
    if contradicts_itself(&input) {
        // Of what a server would cut: `tests/wire/declared.rs` has the tests of that.
        input.response_headers.remove("content-length");
    }
    Exchange::with(|exchange| async move {
        let first = exchange.send(&input).await;
        let is_refused = matches!(first.outcome(), Outcome::InvalidKey(_));
        if is_refused {
            assert_eq!(first.parts.status, StatusCode::BAD_REQUEST);
            assert_eq!((exchange.runs(), exchange.store_calls()), (0, 0));
        } else {
            assert_eq!(exchange.runs(), 1);
            assert_eq!(first.parts.status, input.status);
            assert_eq!(first.body, input.response.whole(), "{:?}", first.outcome());
            exchange.assert_handler_saw(&input);
        }
        match expected(&input) {
            Expected::PassedThrough(outcome) => {
                assert_eq!(first.outcome().as_str(), outcome);
                assert_eq!(first.parts.headers, input.response_headers);
                assert_eq!(exchange.store_calls(), 0);
            }
            Expected::Refused => assert!(is_refused),
            Expected::Freed => {
                assert_eq!(
                    first.parts.headers,
                    without_markers(&input.response_headers)
                );
                exchange.send(&input).await;
                assert_eq!(
                    exchange.runs(),
                    2,
                    "the key is not free: {:?}",
                    first.outcome()
                );
            }
            Expected::Kept { body } => {
                assert_eq!(
                    first.parts.headers,
                    without_markers(&input.response_headers)
                );
                assert_replayed(&exchange, &input, body.as_deref()).await;
            }
        }
        assert_untouched(&exchange, &input).await;
        assert_eq!(exchange.layer.detached().count(), 0);
        // Nothing outlives its time: records and claims give their room back.
        tokio::time::sleep(TTL + Duration::from_secs(2)).await;
        assert!(exchange.store.inner.is_empty());
        exchange
    });
}

/// The retry gets the response that was kept, and another request with the key gets none.
async fn assert_replayed(exchange: &Exchange, input: &Input, body: Option<&[u8]>) {
    let replay = exchange.send(input).await;
    assert_eq!(exchange.runs(), 1);
    assert_eq!(replay.outcome(), Outcome::Replayed);
    assert_eq!(replay.parts.status, input.status);
    let mut headers = kept(&input.response_headers);
    headers.insert("idempotency-replayed", "true".parse().unwrap());
    if body.is_none() {
        headers.insert("idempotency-replay-body", "omitted".parse().unwrap());
        for name in [
            "content-encoding",
            "content-range",
            "content-digest",
            "content-md5",
            "repr-digest",
            "unencoded-digest",
            "digest",
        ] {
            headers.remove(name);
        }
    }
    assert_eq!(replay.parts.headers, headers);
    for name in headers.keys() {
        // Equal values can differ in this.
        let sensitive = |headers: &HeaderMap| -> Vec<_> {
            let values = headers.get_all(name).iter();
            values.map(HeaderValue::is_sensitive).collect()
        };
        assert_eq!(sensitive(&replay.parts.headers), sensitive(&headers));
    }
    let data = body.unwrap_or_default().to_vec();
    assert_eq!(
        replay.body,
        Read {
            data,
            ..Read::default()
        }
    );

    let other = Input {
        uri: Uri::from_static("/fuzz/no-other-target?is=this"),
        ..input.clone()
    };
    let refused = exchange.send(&other).await;
    assert_eq!(exchange.runs(), 1);
    assert_eq!(refused.parts.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.outcome(), Outcome::KeyReused);
}

/// A GET with the same words never meets the store, and comes back as the handler gave it.
async fn assert_untouched(exchange: &Exchange, input: &Input) {
    let (runs, calls) = (exchange.runs(), exchange.store_calls());
    let get = Input {
        method: Method::GET,
        ..input.clone()
    };
    let response = exchange.send(&get).await;
    assert_eq!((exchange.runs(), exchange.store_calls()), (runs + 1, calls));
    assert_eq!(response.parts.status, input.status);
    assert_eq!(response.parts.headers, input.response_headers);
    assert_eq!(response.body, input.response.whole());
    assert!(response.parts.extensions.is_empty());
}

/// Tells whether the handler's `Content-Length` is not the length of its body.
fn contradicts_itself(input: &Input) -> bool {
    let body = input.response.whole();
    let len = body.data.len().to_string();
    let mut declared = input.response_headers.get_all("content-length").iter();
    declared.any(|value| body.is_broken || value.as_bytes() != len.as_bytes())
}

enum Expected {
    PassedThrough(&'static str),
    Refused,
    /// The handler's response goes out, and a retry runs the handler.
    Freed,
    /// A retry gets the response, with this body or without one.
    Kept {
        body: Option<Vec<u8>>,
    },
}

/// What the documentation says of a request: the layer's rules, written down a second time.
fn expected(input: &Input) -> Expected {
    if !["POST", "PUT", "PATCH", "DELETE"].contains(&input.method.as_str()) {
        return Expected::PassedThrough("passed_through_method");
    }
    let keys: Vec<_> = input.headers.get_all("idempotency-key").iter().collect();
    match &keys[..] {
        [] => return Expected::PassedThrough("passed_through_no_key"),
        [key] if super::key::is_valid(key.as_bytes()) => {}
        _ => return Expected::Refused,
    }
    let fields = input.headers.iter();
    let fields: Vec<_> = fields
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if super::caller::credentials(&fields).is_none() {
        return Expected::PassedThrough("passed_through_no_caller");
    }
    let mut response = Response::new(());
    *response.status_mut() = input.status;
    *response.headers_mut() = input.response_headers.clone();
    let upload_broke = input.reads_upload && input.upload.whole().is_broken;
    if upload_broke || !is_kept_by_default(&response.into_parts().0) {
        return Expected::Freed;
    }
    let body = input.response.whole();
    if [204, 304].contains(&input.status.as_u16()) {
        // No server sends a body with these.
        Expected::Kept {
            body: Some(Vec::new()),
        }
    } else if body.data.len() > MAX_RESPONSE_BYTES {
        Expected::Kept { body: None }
    } else if body.is_broken {
        Expected::Freed
    } else {
        Expected::Kept {
            body: Some(body.data),
        }
    }
}

fn without_markers(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    headers.remove("idempotency-replayed");
    headers.remove("idempotency-replay-body");
    headers
}

/// The header fields that a replay has.
fn kept(headers: &HeaderMap) -> HeaderMap {
    let mut kept = without_markers(headers);
    for value in headers.get_all("connection") {
        // As text, in which a byte outside ASCII is in no name.
        let value: String = value
            .as_bytes()
            .iter()
            .map(|byte| char::from(*byte))
            .collect();
        for option in value.split(',') {
            kept.remove(option.trim_matches([' ', '\t']).to_ascii_lowercase());
        }
    }
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "date",
        "content-length",
        "set-cookie",
    ] {
        kept.remove(name);
    }
    kept
}

/// A layer, its store, and a handler, which remember what they were asked.
pub struct Exchange {
    layer: IdempotencyLayer<Counting>,
    store: Counting,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// What a handler saw.
struct Seen {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    key: Option<IdempotencyKey>,
    upload: Option<Read>,
}

/// What a client got.
pub struct Received {
    pub parts: response::Parts,
    pub body: Read,
}

impl Received {
    pub fn outcome(&self) -> Outcome {
        Outcome::of(&self.parts.extensions)
    }
}

impl Exchange {
    /// Runs on a runtime of its own, whose clock moves when everybody waits.
    pub fn with<T, F: Future<Output = T>>(run: impl FnOnce(Self) -> F) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let store = Counting::default();
            let layer = IdempotencyLayer::new(store.clone())
                .max_response_bytes(MAX_RESPONSE_BYTES)
                .ttl(TTL);
            run(Self {
                layer,
                store,
                seen: Arc::default(),
            })
            .await
        })
    }

    /// Sends a request and reads the response.
    pub async fn send(&self, input: &Input) -> Received {
        let (script, seen) = (input.clone(), Arc::clone(&self.seen));
        let handler = service_fn(move |request: Request<RequestBody<Script>>| {
            let (script, seen) = (script.clone(), Arc::clone(&seen));
            async move {
                let (parts, body) = request.into_parts();
                let upload = if script.reads_upload {
                    Some(read(body).await)
                } else {
                    None
                };
                seen.lock().unwrap().push(Seen {
                    method: parts.method,
                    uri: parts.uri,
                    headers: parts.headers,
                    key: parts.extensions.get().cloned(),
                    upload,
                });
                let mut response = Response::new(script.response);
                *response.status_mut() = script.status;
                *response.headers_mut() = script.response_headers;
                Ok::<_, &'static str>(response)
            }
        });
        let mut request = Request::new(input.upload.clone());
        *request.method_mut() = input.method.clone();
        *request.uri_mut() = input.uri.clone();
        *request.headers_mut() = input.headers.clone();
        let response = self.layer.clone().layer(handler).oneshot(request).await;
        let (parts, body) = response.expect("the handler answers").into_parts();
        let body = read(body).await;
        Received { parts, body }
    }

    pub fn runs(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub fn store_calls(&self) -> usize {
        self.store.calls.load(Ordering::SeqCst)
    }

    /// The key that the handler found in the request's extensions.
    pub fn handler_key(&self) -> Option<IdempotencyKey> {
        self.seen.lock().unwrap().last()?.key.clone()
    }

    fn assert_handler_saw(&self, input: &Input) {
        let seen = self.seen.lock().unwrap();
        let seen = seen.last().expect("the handler ran");
        assert_eq!((&seen.method, &seen.uri), (&input.method, &input.uri));
        assert_eq!(seen.headers, input.headers);
        if let Some(upload) = &seen.upload {
            assert_eq!(*upload, input.upload.whole());
        }
    }
}

/// A memory store that counts how often it is called.
#[derive(Clone, Default)]
struct Counting {
    inner: MemoryStore,
    calls: Arc<AtomicUsize>,
}

impl Counting {
    fn count(&self) -> &MemoryStore {
        self.calls.fetch_add(1, Ordering::SeqCst);
        &self.inner
    }
}

impl Store for Counting {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        self.count().begin(key, claim, lease).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        self.count().complete(key, owner, record, ttl).await
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Ownership, StoreError> {
        self.count().renew(key, owner, lease).await
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Ownership, StoreError> {
        self.count().release(key, owner).await
    }
}

/// Small, so that short bodies are over it, too.
const MAX_RESPONSE_BYTES: usize = 16;
const TTL: Duration = Duration::from_secs(60);
