//! Requests through a layer whose store, handler and answers are watched.

use std::collections::BTreeSet;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use support::{Call, Director, Fault, Frames, Handler, Reply, Scripted, Step, read};
use tower::{Service, ServiceExt};
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{DoNotKeep, IdempotencyKey, IdempotencyLayer, MemoryStore, Outcome};

use crate::onlooker::{API_KEY, BODY, KEY, Onlooker, TARGET, TOKEN};

/// What the store does with the calls that it gets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Works,
    Fails(StoreErrorKind),
    /// Claims, and fails from then on.
    FailsAfterBegin,
    Hangs,
    /// Claims, and knows nothing of it from then on.
    Forgets,
}

/// Shows an onlooker all that a store is given and all that it gives.
pub(crate) struct Watched {
    onlooker: Onlooker,
    mode: Mode,
}

impl Director for Watched {
    fn fault(&self, step: &Step<'_>) -> Option<Fault> {
        self.onlooker.both(step.key);
        self.onlooker.see(step.key.as_bytes());
        self.onlooker.see(step.owner.as_bytes());
        if let Some(claim) = step.claim {
            self.onlooker.debug(claim);
            self.onlooker.see(claim.fingerprint().as_bytes());
        }
        if let Some(record) = step.record {
            self.onlooker.debug(record);
            self.onlooker.see(record.as_bytes());
        }
        match self.mode {
            Mode::Works | Mode::Forgets => None,
            Mode::FailsAfterBegin if step.call == Call::Begin => None,
            Mode::FailsAfterBegin => Some(Fault::Fail(StoreErrorKind::Unavailable)),
            Mode::Fails(kind) => Some(Fault::Fail(kind)),
            Mode::Hangs => Some(Fault::Hang),
        }
    }

    fn memory(&self, usual: &MemoryStore) -> MemoryStore {
        match self.mode {
            Mode::Forgets => MemoryStore::new(),
            _ => usual.clone(),
        }
    }

    fn replied(&self, _: &Step<'_>, reply: Option<Reply<'_>>) {
        self.onlooker.debug(reply);
    }
}

/// What a handler does when it has read the upload.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) status: u16,
    pub(crate) body: fn() -> Frames,
    pub(crate) takes: Duration,
    pub(crate) do_not_keep: bool,
}

impl Script {
    pub(crate) fn new(status: u16, body: fn() -> Frames) -> Self {
        let takes = Duration::ZERO;
        let do_not_keep = false;
        Self {
            status,
            body,
            takes,
            do_not_keep,
        }
    }
}

/// One store, and the requests that it is to see.
pub(crate) struct World {
    pub(crate) onlooker: Onlooker,
    pub(crate) outcomes: BTreeSet<&'static str>,
}

impl World {
    pub(crate) fn layer(&self, mode: Mode) -> IdempotencyLayer<Scripted<Watched>> {
        let watched = Watched {
            onlooker: self.onlooker.clone(),
            mode,
        };
        IdempotencyLayer::new(Scripted::new(watched)).max_response_bytes(64)
    }

    pub(crate) async fn send(
        &mut self,
        layer: &IdempotencyLayer<Scripted<Watched>>,
        request: Request<Frames>,
        script: &Script,
    ) {
        let (script, onlooker) = (script.clone(), self.onlooker.clone());
        let handler = Handler::new(move |_, request| {
            let (script, onlooker) = (script.clone(), onlooker.clone());
            async move {
                onlooker.debug(request.extensions());
                onlooker.debug(request.extensions().get::<IdempotencyKey>());
                onlooker.debug(request.body());
                read(request.into_body()).await;
                tokio::time::sleep(script.takes).await;
                let mut response = Response::new((script.body)());
                *response.status_mut() = StatusCode::from_u16(script.status).unwrap();
                if script.do_not_keep {
                    response.extensions_mut().insert(DoNotKeep);
                }
                Ok(response)
            }
        });
        let mut service = handler.under(layer);
        self.onlooker.debug(layer);
        let future = service.ready().await.unwrap().call(request);
        self.onlooker.debug(&future);
        let response = future.await.unwrap();
        let outcome = Outcome::of(response.extensions());
        self.onlooker.both(outcome);
        self.onlooker.debug(&response);
        self.onlooker.see(read(response.into_body()).await.data);
        self.outcomes.insert(outcome.as_str());
    }

    /// Sends a usual request to a handler that gives a usual answer.
    pub(crate) async fn post(&mut self, layer: &IdempotencyLayer<Scripted<Watched>>) {
        self.send(
            layer,
            request("POST", &[KEY]),
            &Script::new(201, || Frames::exact(["made"])),
        )
        .await;
    }

    pub(crate) async fn answer(&mut self, script: &Script) {
        self.send(&self.layer(Mode::Works), request("POST", &[KEY]), script)
            .await;
    }
}

pub(crate) fn request(method: &str, keys: &[&str]) -> Request<Frames> {
    let mut request = Request::builder().method(method).uri(TARGET);
    request = request
        .header("authorization", TOKEN)
        .header("x-api-key", API_KEY);
    for key in keys {
        request = request.header("idempotency-key", *key);
    }
    request.body(Frames::exact([BODY])).unwrap()
}
