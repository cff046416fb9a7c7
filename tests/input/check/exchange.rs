//! A request that is sent through a layer to a handler.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, Uri, response};
use support::{Handler, Read, Scripted, read};
use tower::ServiceExt;
use tower_idempotency::{IdempotencyKey, IdempotencyLayer, Outcome};

use super::input::Input;

/// A layer, its store, and a handler, which remember what they were asked.
pub struct Exchange {
    pub layer: IdempotencyLayer<Scripted>,
    pub store: Scripted,
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
            let store = Scripted::default();
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
        let handler = Handler::new(move |_, request| {
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
                let mut response = Response::new(script.response.body());
                *response.status_mut() = script.status;
                *response.headers_mut() = script.response_headers;
                Ok(response)
            }
        });
        let mut request = Request::new(input.upload.body());
        *request.method_mut() = input.method.clone();
        *request.uri_mut() = input.uri.clone();
        *request.headers_mut() = input.headers.clone();
        let response = handler.under(&self.layer).oneshot(request).await;
        let (parts, body) = response.expect("the handler answers").into_parts();
        let body = read(body).await;
        Received { parts, body }
    }

    pub fn runs(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub fn store_calls(&self) -> usize {
        self.store.calls().len()
    }

    /// The key that the handler found in the request's extensions.
    pub fn handler_key(&self) -> Option<IdempotencyKey> {
        self.seen.lock().unwrap().last()?.key.clone()
    }

    pub fn assert_handler_saw(&self, input: &Input) {
        let seen = self.seen.lock().unwrap();
        let seen = seen.last().expect("the handler ran");
        assert_eq!((&seen.method, &seen.uri), (&input.method, &input.uri));
        assert_eq!(seen.headers, input.headers);
        if let Some(upload) = &seen.upload {
            assert_eq!(*upload, input.upload.whole());
        }
    }
}

/// Small, so that short bodies are over it, too.
pub const MAX_RESPONSE_BYTES: usize = 16;
pub const TTL: Duration = Duration::from_secs(60);
