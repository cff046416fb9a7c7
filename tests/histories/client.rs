//! A client that is polled by hand, and what it must see.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::Body;
use support::{Broken, Failure, Frames, Handler, keyed};
use tower::Service;
use tower_idempotency::store::Record;
use tower_idempotency::{
    CallerId, Idempotency, IdempotencyKey, NotKept, Outcome, RecordKey, ResponseBody,
};

use crate::bodies;
use crate::claim::Told;
use crate::script::{BodyEnd, Ending, Plan, Sizing, Verdict};
use crate::store::Store;
use crate::world::{CollectMap, Run, World, fingerprint};

pub(crate) type Stack = Idempotency<Handler, Store>;
type Calling = Pin<Box<<Stack as Service<Request<Frames>>>::Future>>;

/// Put into a request, so that the handler knows who sent it.
#[derive(Clone, Copy)]
pub(crate) struct ClientNumber(pub(crate) usize);

pub(crate) struct Client {
    number: usize,
    target: &'static str,
    world: Arc<World>,
    flag: Arc<Flag>,
    calling: Option<Calling>,
    reading: Option<Reading>,
    pub(crate) outcome: Option<Outcome>,
}

struct Reading {
    body: Pin<Box<ResponseBody<Frames>>>,
    promised: Option<u64>,
    bytes: Vec<u8>,
    saw_trailers: bool,
    source: Source,
}

/// Where a response came from.
#[derive(Clone)]
enum Source {
    Run(usize),
    Record(Record),
    Refusal,
}

impl Client {
    pub(crate) fn request(number: usize, key: u8, target: u8, plan: Plan) -> Request<Frames> {
        let (target, key) = (TARGETS[usize::from(target)], format!("key-{key}"));
        let upload = bodies::upload(plan.upload);
        let mut request = keyed(Method::POST, target, "caller", &key, upload);
        request.extensions_mut().insert(ClientNumber(number));
        request.extensions_mut().insert(plan);
        request
    }

    pub(crate) fn new(
        number: usize,
        target: u8,
        world: Arc<World>,
        driver: &Arc<Mutex<Waker>>,
        calling: <Stack as Service<Request<Frames>>>::Future,
    ) -> Self {
        Self {
            number,
            target: TARGETS[usize::from(target)],
            world,
            flag: Arc::new(Flag {
                woken: AtomicBool::new(true),
                driver: Arc::clone(driver),
            }),
            calling: Some(Box::pin(calling)),
            reading: None,
            outcome: None,
        }
    }

    pub(crate) fn is_calling(&self) -> bool {
        self.calling.is_some()
    }

    pub(crate) fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    pub(crate) fn take_wake(&self) -> bool {
        self.is_calling() && self.flag.woken.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn leave(&mut self) {
        self.world.left(self.number);
        self.calling = None;
        self.reading = None;
    }

    /// Polls the future of the response once.
    pub(crate) fn poll(&mut self) {
        let Some(mut calling) = self.calling.take() else {
            return;
        };
        let waker = Waker::from(Arc::clone(&self.flag));
        let mut context = Context::from_waker(&waker);
        let polled = self.world.poll_as(self.number, || {
            catch_unwind(AssertUnwindSafe(|| calling.as_mut().poll(&mut context)))
        });
        match polled {
            Ok(Poll::Pending) => self.calling = Some(calling),
            Ok(Poll::Ready(Ok(response))) => self.received(response),
            Ok(Poll::Ready(Err(Failure(_)))) => {
                let rule = "the call failed, but not the handler";
                self.expect_run(rule, |run| matches!(run.script.ending, Ending::Error));
            }
            Err(_) => {
                let rule = "the call panicked, but not the handler";
                self.expect_run(rule, |run| {
                    let body = run.script.answer().map(|answer| &answer.body);
                    matches!(run.script.ending, Ending::Panic)
                        || body.is_some_and(|body| {
                            body.end == BodyEnd::Panic && body.sizing != Sizing::Unknown
                        })
                });
            }
        }
    }

    /// Reads one frame of the body, and returns whether there was one.
    pub(crate) fn read(&mut self) -> bool {
        let Some(mut reading) = self.reading.take() else {
            return false;
        };
        let ended = reading.body.is_end_stream();
        if ended {
            self.check_record(&reading.source);
        }
        let waker = Waker::from(Arc::clone(&self.flag));
        let mut context = Context::from_waker(&waker);
        let polled = self.world.poll_as(self.number, || {
            catch_unwind(AssertUnwindSafe(|| {
                reading.body.as_mut().poll_frame(&mut context)
            }))
        });
        match polled {
            Ok(Poll::Pending) => {
                self.reading = Some(reading);
                return false;
            }
            Ok(Poll::Ready(Some(Ok(frame)))) => {
                if ended {
                    self.violated("a frame came after the end");
                }
                match frame.into_data() {
                    Ok(data) => reading.bytes.extend_from_slice(&data),
                    Err(_) => {
                        reading.saw_trailers = true;
                        self.check_record(&reading.source);
                    }
                }
                self.reading = Some(reading);
            }
            Ok(Poll::Ready(None)) => {
                self.check_record(&reading.source);
                let end = match reading.saw_trailers {
                    true => BodyEnd::Trailers,
                    false => BodyEnd::Whole,
                };
                let promised = reading.promised;
                if promised.is_some_and(|promised| promised != reading.bytes.len() as u64)
                    && !self.is_misstated(&reading.source)
                {
                    self.violated("the body is not as long as it promised");
                }
                self.check_body(&reading, end);
            }
            Ok(Poll::Ready(Some(Err(Broken)))) => self.check_body(&reading, BodyEnd::Broken),
            Err(_) => self.check_body(&reading, BodyEnd::Panic),
        }
        true
    }

    fn violated(&self, rule: &str) {
        let rule = format!("client {}: {rule}", self.number);
        self.world.violated(rule);
    }

    fn expect_run(&self, rule: &str, check: impl Fn(&Run) -> bool) {
        let state = self.world.state();
        let right = state.run_of(self.number).is_some_and(|(_, run)| check(run));
        drop(state);
        if !right {
            self.violated(rule);
        }
    }

    fn is_misstated(&self, source: &Source) -> bool {
        let state = self.world.state();
        let Source::Run(run) = source else {
            return false;
        };
        let answer = state.runs[*run].script.answer();
        answer.is_some_and(|answer| {
            matches!(answer.body.sizing, Sizing::Understated | Sizing::Overstated)
        })
    }

    fn received(&mut self, response: Response<ResponseBody<Frames>>) {
        let (parts, body) = response.into_parts();
        let outcome = Outcome::of(&parts.extensions);
        self.outcome = Some(outcome);
        match self.check_head(outcome, parts.status.as_u16(), &parts.headers) {
            Ok(source) => {
                self.reading = Some(Reading {
                    promised: body.size_hint().exact(),
                    body: Box::pin(body),
                    bytes: Vec::new(),
                    saw_trailers: false,
                    source,
                });
            }
            Err(rule) => self.violated(&format!("{rule}: {outcome:?}, {parts:?}")),
        }
    }

    /// Checks the head and the outcome by what the store said, what the handler did, and what was
    /// done to both.
    fn check_head(
        &self,
        outcome: Outcome,
        status: u16,
        headers: &HeaderMap,
    ) -> Result<Source, &'static str> {
        let state = self.world.state();
        let claim = state.owner_of(self.number).ok_or("answered unasked")?;
        let mine = fingerprint(self.target);
        let refused = |with: u16, as_: Outcome| match status == with && outcome == as_ {
            true => Ok(Source::Refusal),
            false => Err("not refused as it should be"),
        };
        match claim.told.clone().ok_or("answered untold")? {
            Told::InProgress(first) if first == mine => {
                if !headers.contains_key("retry-after") {
                    return Err("refused without Retry-After");
                }
                refused(409, Outcome::InProgress)
            }
            Told::Completed(record) if record.fingerprint() == mine => {
                let mut expected = record.fields().collect_map();
                let marker = HeaderValue::from_static("true");
                expected.insert("idempotency-replayed", marker);
                if record.body().is_none() {
                    let marker = HeaderValue::from_static("omitted");
                    expected.insert("idempotency-replay-body", marker);
                }
                if record.status() == status && *headers == expected && outcome == Outcome::Replayed
                {
                    Ok(Source::Record(record))
                } else {
                    Err("the replay is not the record")
                }
            }
            Told::InProgress(_) | Told::Completed(_) => refused(422, Outcome::KeyReused),
            told @ (Told::Started | Told::Failure) => {
                let (id, run) = state.run_of(self.number).ok_or("answered without a run")?;
                let answer = run.script.answer().ok_or("answered, not the handler")?;
                let mut expected = answer.headers(id);
                expected.remove("idempotency-replayed");
                if answer.status != status || *headers != expected {
                    return Err("the response is not the handler's");
                }
                let unclaimed = matches!(told, Told::Failure);
                let body = &answer.body;
                let expected = match run.verdict(id) {
                    _ if unclaimed => matches!(outcome, Outcome::StoreFailed(_)),
                    // Not known yet: the body is read while it is sent.
                    Verdict::NotKept(NotKept::BrokenBody) | Verdict::Kept(_)
                        if body.is_copied() && outcome == Outcome::Recording =>
                    {
                        true
                    }
                    Verdict::Kept(Some(_)) if claim.was_only_refused_for_room() => {
                        // Not as if the store had failed: there was room for the head.
                        return match outcome {
                            Outcome::KeptWithoutBody => Ok(Source::Run(id)),
                            _ => Err("not kept without its body"),
                        };
                    }
                    Verdict::NotKept(why) => outcome == Outcome::NotKept(why),
                    Verdict::Kept(Some(_)) => {
                        outcome == Outcome::Kept
                            || (claim.was_refused_for_room() && outcome == Outcome::KeptWithoutBody)
                    }
                    Verdict::Kept(None) => outcome == Outcome::KeptWithoutBody,
                    Verdict::GivenUp => body.sizing == Sizing::Unknown,
                };
                let lost = outcome == Outcome::NotKept(NotKept::LeaseLost);
                let failed = matches!(outcome, Outcome::StoreFailed(_)) && claim.has_failed()
                    || lost && claim.may_have_lost_its_lease();
                if !expected && !failed {
                    return Err("the outcome is wrong");
                }
                let kept = matches!(outcome, Outcome::Kept | Outcome::KeptWithoutBody);
                if kept && claim.completed.is_none() && !claim.was_lied_to() {
                    return Err("a record that is not there is said to be kept");
                }
                Ok(Source::Run(id))
            }
        }
    }

    /// Whoever has seen the end of a response that is to be kept can rely on the record.
    fn check_record(&self, source: &Source) {
        let Source::Run(id) = source else {
            return;
        };
        let state = self.world.state();
        let run = &state.runs[*id];
        let claim = &state.owners[&run.owner];
        let kept = matches!(run.verdict(*id), Verdict::Kept(_));
        let missing = kept
            && claim.completed.is_none()
            && !claim.has_failed()
            && !claim.may_have_lost_its_lease();
        drop(state);
        if missing {
            self.violated("the end of the response came before its record was made");
        }
    }

    fn check_body(&self, reading: &Reading, end: BodyEnd) {
        let state = self.world.state();
        let right = match &reading.source {
            Source::Refusal => {
                end == BodyEnd::Whole && reading.bytes.starts_with(b"{\"type\":\"https://")
            }
            Source::Record(record) => {
                end == BodyEnd::Whole && reading.bytes == record.body().unwrap_or_default()
            }
            Source::Run(id) => {
                let run = &state.runs[*id];
                let answer = run.script.answer();
                run.body_end() == Some(end)
                    && answer.is_some_and(|answer| answer.body.bytes(*id) == reading.bytes)
            }
        };
        drop(state);
        if !right {
            let bytes = String::from_utf8_lossy(&reading.bytes).into_owned();
            self.violated(&format!("the body is wrong: {bytes:?}, ends {end:?}"));
        }
    }
}

/// Computes the name of the record as the layer must.
pub(crate) fn record_key(headers: &HeaderMap) -> RecordKey {
    let caller = CallerId::from_credentials(headers).unwrap();
    let key = headers["idempotency-key"].to_str().unwrap();
    RecordKey::new(&caller, &IdempotencyKey::new(key).unwrap())
}

/// Notes that a client was woken, and wakes the driver, which polls it when its time comes.
struct Flag {
    woken: AtomicBool,
    driver: Arc<Mutex<Waker>>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.driver.lock().unwrap().wake_by_ref();
    }
}

const TARGETS: [&str; 2] = ["/orders", "/invoices?draft=1"];
