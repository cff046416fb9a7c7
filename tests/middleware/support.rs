//! What the tests share: requests, bodies, a handler and a store that follow a script.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt::{self, Debug};
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::{Layer, Service, ServiceExt};
use tower_idempotency::store::{Begin, Claim, Held, Owner, Record, StoreErrorKind};
use tower_idempotency::{
    Idempotency, IdempotencyLayer, MemoryStore, Outcome, RecordKey, RequestBody, Store, StoreError,
};

/// The credential of every request here, which must appear nowhere else.
pub(crate) const CREDENTIAL: &str = "secret-credential";

/// A write with this key: POST /vms.
pub(crate) fn write(key: &str) -> Request<Frames> {
    request(Method::POST, "/vms", key)
}

pub(crate) fn request(method: Method, target: &str, key: &str) -> Request<Frames> {
    Request::builder()
        .method(method)
        .uri(target)
        .header("x-api-key", CREDENTIAL)
        .header("idempotency-key", key)
        .body(Frames::exact(["{}"]))
        .unwrap()
}

/// Sends a request to a clone of the service, and reads the response to its end.
pub(crate) async fn send<S, RB>(app: &S, request: Request<Frames>) -> Answer
where
    S: Service<Request<Frames>, Response = Response<RB>, Error: Debug> + Clone,
    RB: Body<Data = Bytes, Error: Debug>,
{
    let response = in_time(app.clone().oneshot(request)).await;
    Answer::read(response.expect("a response")).await
}

/// Makes a test fail that would hang. The clock is paused, so that this takes no time.
async fn in_time<F: Future>(future: F) -> F::Output {
    const LONG: Duration = Duration::from_secs(60 * 60);
    match tokio::runtime::Handle::try_current() {
        Ok(_) => timeout(LONG, future).await.expect("an end"),
        // Polled by hand, which has an end.
        Err(_) => future.await,
    }
}

/// A response that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) outcome: Outcome,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) async fn read<RB>(response: Response<RB>) -> Self
    where
        RB: Body<Data = Bytes, Error: Debug>,
    {
        let (parts, body) = response.into_parts();
        let body = in_time(body.collect()).await.expect("a whole body");
        Self {
            status: parts.status,
            headers: parts.headers,
            outcome: Outcome::of(&parts.extensions),
            body: String::from_utf8(body.to_bytes().into()).unwrap(),
        }
    }

    /// Checks that this is the answer of a run that was kept, or is being kept.
    #[track_caller]
    pub(crate) fn assert_run(&self, body: &str) {
        assert!(
            matches!(self.outcome, Outcome::Kept | Outcome::Recording),
            "{self:?}"
        );
        assert_eq!(self.body, body, "{self:?}");
        assert!(!self.headers.contains_key("idempotency-replayed"));
    }

    #[track_caller]
    pub(crate) fn assert_replay(&self, body: &str) {
        assert_eq!(self.outcome, Outcome::Replayed, "{self:?}");
        assert_eq!(self.headers["idempotency-replayed"], "true", "{self:?}");
        assert_eq!(self.body, body, "{self:?}");
    }

    #[track_caller]
    pub(crate) fn assert_in_progress(&self) {
        assert_eq!(self.outcome, Outcome::InProgress, "{self:?}");
        assert_eq!(self.status, StatusCode::CONFLICT, "{self:?}");
    }
}

/// A body that gives what it is told to, for requests and responses.
#[derive(Default)]
pub(crate) struct Frames {
    pieces: VecDeque<Piece>,
    size: Option<u64>,
}

pub(crate) enum Piece {
    Data(&'static str),
    /// Wakes its task and is pending once.
    Pend,
    /// Is pending until this is ready.
    Until(Pin<Box<dyn Future<Output = ()> + Send>>),
    Break,
    Panic,
}

impl Frames {
    /// A body that says how long it is. One that breaks says a byte more.
    pub(crate) fn exact(pieces: impl IntoIterator<Item = impl Into<Piece>>) -> Self {
        let mut frames = Self::unknown(pieces);
        let size = frames.pieces.iter().map(|piece| match piece {
            Piece::Data(data) => data.len() as u64,
            Piece::Break => 1,
            _ => 0,
        });
        frames.size = Some(size.sum());
        frames
    }

    /// A body that does not say how long it is.
    pub(crate) fn unknown(pieces: impl IntoIterator<Item = impl Into<Piece>>) -> Self {
        Self {
            pieces: pieces.into_iter().map(Into::into).collect(),
            size: None,
        }
    }
}

impl From<&'static str> for Piece {
    fn from(data: &'static str) -> Self {
        Self::Data(data)
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            if let Some(Piece::Until(future)) = self.pieces.front_mut() {
                ready!(future.as_mut().poll(context));
            }
            return Poll::Ready(match self.pieces.pop_front() {
                None => None,
                Some(Piece::Until(_)) => continue,
                Some(Piece::Pend) => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Piece::Data(data)) => {
                    if let Some(size) = &mut self.size {
                        *size -= data.len() as u64;
                    }
                    Some(Ok(Frame::data(Bytes::from_static(data.as_bytes()))))
                }
                Some(Piece::Break) => {
                    self.pieces.clear();
                    Some(Err(Broken))
                }
                Some(Piece::Panic) => panic!("the body panics"),
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.size
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frames({} left)", self.pieces.len())
    }
}

/// What a body ends in that breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body broke")
    }
}

/// What a handler fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) &'static str);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Failure {}

impl From<Infallible> for Failure {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

pub(crate) type Handled = Result<Response<Frames>, Failure>;

/// 201 with this JSON.
pub(crate) fn created(body: &'static str) -> Handled {
    responding(201, Frames::exact([body]))
}

pub(crate) fn responding(status: u16, body: Frames) -> Handled {
    let response = Response::builder().status(status);
    let response = response.header("content-type", "application/json");
    Ok(response.body(body).unwrap())
}

/// A handler that counts its runs, and panics if it is called without having been ready.
pub(crate) struct Handler {
    runs: Arc<AtomicUsize>,
    run: Arc<RunFn>,
    ready: bool,
}

type HandledFuture = Pin<Box<dyn Future<Output = Handled> + Send>>;
type RunFn = dyn Fn(usize, Request<RequestBody<Frames>>) -> HandledFuture + Send + Sync;

impl Handler {
    /// The function is given the number of the run, from 1, and the request.
    pub(crate) fn new<F, Fut>(run: F) -> Self
    where
        F: Fn(usize, Request<RequestBody<Frames>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Handled> + Send + 'static,
    {
        Self {
            runs: Arc::default(),
            run: Arc::new(move |number, request| Box::pin(run(number, request))),
            ready: false,
        }
    }

    /// A handler that answers at once with 201 and this body.
    pub(crate) fn creating(body: &'static str) -> Self {
        Self::new(move |_, _| async move { created(body) })
    }

    /// A handler that stops at a gate in its first run, and then answers with the run's number.
    pub(crate) fn at(gate: &Gate) -> Self {
        let gate = gate.clone();
        Self::new(move |run, _| {
            let gate = gate.clone();
            async move {
                if run == 1 {
                    gate.pass().await;
                }
                created(numbered(run))
            }
        })
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    pub(crate) fn under<St: Store>(&self, layer: &IdempotencyLayer<St>) -> Idempotency<Self, St> {
        layer.layer(self.clone())
    }
}

/// The body by which a run is told from others.
pub(crate) fn numbered(run: usize) -> &'static str {
    ["", r#"{"run":1}"#, r#"{"run":2}"#, r#"{"run":3}"#][run]
}

impl Clone for Handler {
    fn clone(&self) -> Self {
        Self {
            runs: Arc::clone(&self.runs),
            run: Arc::clone(&self.run),
            ready: false,
        }
    }
}

impl Service<Request<RequestBody<Frames>>> for Handler {
    type Response = Response<Frames>;
    type Error = Failure;
    type Future = HandledFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody<Frames>>) -> HandledFuture {
        assert!(
            std::mem::take(&mut self.ready),
            "called without being ready"
        );
        let run = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
        (self.run)(run, request)
    }
}

/// A place where one side stops until the other lets it pass.
#[derive(Clone)]
pub(crate) struct Gate {
    reached: Arc<Semaphore>,
    opened: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            reached: Arc::new(Semaphore::new(0)),
            opened: Arc::new(Semaphore::new(0)),
        }
    }

    /// Says that the gate is reached, and waits until it is opened.
    pub(crate) async fn pass(&self) {
        self.reached.add_permits(1);
        self.opened.acquire().await.unwrap().forget();
    }

    /// Waits until somebody has reached the gate.
    pub(crate) async fn reached(&self) {
        in_time(self.reached.acquire()).await.unwrap().forget();
    }

    /// Lets one pass, now or later.
    pub(crate) fn open(&self) {
        self.opened.add_permits(1);
    }
}

/// Wakes its task and is pending so many times. The layer may poll what is pending more than once
/// in one poll of its own.
pub(crate) async fn pend(times: usize) {
    for _ in 0..times {
        let mut pended = false;
        poll_fn(|context| {
            if std::mem::replace(&mut pended, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// A layer with a scripted store and short times.
pub(crate) fn scripted() -> (IdempotencyLayer<Scripted>, Scripted) {
    let store = Scripted::default();
    let layer = IdempotencyLayer::new(store.clone()).lease(LEASE);
    (layer.store_timeout(STORE_TIMEOUT), store)
}

pub(crate) const LEASE: Duration = Duration::from_secs(6);
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_millis(100);

/// A call of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Begin,
    Complete,
    Renew,
    Release,
}

/// How a call goes wrong, or slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The step is not taken.
    Fail(StoreErrorKind),
    Hang,
    /// The step is taken, but its reply is lost.
    FailAfter(StoreErrorKind),
    HangAfter,
    /// The step is taken after being pending so many times.
    Pend(usize),
    /// The step is taken after this time.
    Late(Duration),
}

/// A memory store whose calls can be told to go wrong. A clone is the same store.
#[derive(Clone, Default)]
pub(crate) struct Scripted {
    pub(crate) memory: MemoryStore,
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    calls: Vec<Call>,
    next: HashMap<Call, VecDeque<Fault>>,
    always: HashMap<Call, Fault>,
}

impl Scripted {
    /// Lets the next call that is not spoken for go wrong.
    pub(crate) fn once(&self, call: Call, fault: Fault) {
        let mut script = self.script.lock().unwrap();
        script.next.entry(call).or_default().push_back(fault);
    }

    /// Lets all calls go wrong that are not spoken for.
    pub(crate) fn always(&self, call: Call, fault: Fault) {
        self.script.lock().unwrap().always.insert(call, fault);
    }

    /// Lets all calls go well from now on.
    pub(crate) fn heal(&self) {
        let mut script = self.script.lock().unwrap();
        script.next.clear();
        script.always.clear();
    }

    /// Returns the calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.script.lock().unwrap().calls.clone()
    }

    async fn step<T>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let fault = {
            let mut script = self.script.lock().unwrap();
            script.calls.push(call);
            let next = script.next.get_mut(&call).and_then(VecDeque::pop_front);
            next.or_else(|| script.always.get(&call).copied())
        };
        match fault {
            None => work.await,
            Some(Fault::Fail(kind)) => Err(kind.into()),
            Some(Fault::Hang) => pending().await,
            Some(Fault::FailAfter(kind)) => {
                work.await?;
                Err(kind.into())
            }
            Some(Fault::HangAfter) => {
                work.await?;
                pending().await
            }
            Some(Fault::Late(time)) => {
                tokio::time::sleep(time).await;
                work.await
            }
            Some(Fault::Pend(times)) => {
                pend(times).await;
                work.await
            }
        }
    }
}

impl Store for Scripted {
    async fn begin(
        &self,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        self.step(Call::Begin, self.memory.begin(key, claim, lease))
            .await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Held, StoreError> {
        self.step(
            Call::Complete,
            self.memory.complete(key, owner, record, ttl),
        )
        .await
    }

    async fn renew(
        &self,
        key: &RecordKey,
        owner: Owner,
        lease: Duration,
    ) -> Result<Held, StoreError> {
        self.step(Call::Renew, self.memory.renew(key, owner, lease))
            .await
    }

    async fn release(&self, key: &RecordKey, owner: Owner) -> Result<Held, StoreError> {
        self.step(Call::Release, self.memory.release(key, owner))
            .await
    }
}
