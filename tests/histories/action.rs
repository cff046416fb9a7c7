//! The actions that a history is made of, and how they are drawn.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use support::{Call, Fault};
use tower_idempotency::store::StoreErrorKind;

use crate::script::{Answer, BodyEnd, BodyScript, Ending, Nap, Script, Sizing, UploadKind};

/// One step of a history.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// A client calls the service; the future is not polled yet.
    Start {
        key: u8,
        target: u8,
        upload: UploadKind,
        script: Script,
    },
    /// The future of the n-th client that has one is polled once.
    Poll(u8),
    /// The n-th client that is still there drops what it has: its future, or its body.
    Leave(u8),
    /// A frame is read by the n-th client that has a body.
    Read(u8),
    /// Tasks in the background get their turn.
    Yield,
    /// Time passes; who is woken meanwhile is polled in time.
    Wait(Time),
    /// The process stands still for more than a lease, and every lease is lost.
    Freeze,
    /// The next calls of one method of the store go wrong.
    Fail { call: Call, fault: Fault, times: u8 },
    /// The store loses all it has.
    Forget,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Time {
    Millis(u16),
    Third,
    Lease,
    Ttl,
}

/// Draws a history.
pub(crate) fn history() -> impl Strategy<Value = Vec<Action>> {
    vec(action(), 1..24)
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => start(),
        8 => any::<u8>().prop_map(Action::Poll),
        3 => any::<u8>().prop_map(Action::Leave),
        4 => any::<u8>().prop_map(Action::Read),
        2 => Just(Action::Yield),
        6 => time().prop_map(Action::Wait),
        4 => (call(), fault(), prop_oneof![4 => Just(1_u8), 1 => Just(2), 1 => Just(40)])
            .prop_map(|(call, fault, times)| Action::Fail { call, fault, times }),
        1 => prop_oneof![Just(Action::Freeze), Just(Action::Forget)],
    ]
}

fn start() -> impl Strategy<Value = Action> {
    let key = prop_oneof![3 => Just(0_u8), 1 => Just(1)];
    let target = prop_oneof![6 => Just(0_u8), 1 => Just(1)];
    (key, target, upload(), script()).prop_map(|(key, target, upload, script)| {
        let reads_upload = script.reads_upload && upload != UploadKind::Stuck;
        let script = Script {
            reads_upload,
            ..script
        };
        Action::Start {
            key,
            target,
            upload,
            script,
        }
    })
}

fn upload() -> impl Strategy<Value = UploadKind> {
    prop_oneof![
        6 => Just(UploadKind::Empty),
        2 => (1..4_u8).prop_map(UploadKind::Frames),
        1 => Just(UploadKind::Broken),
        1 => Just(UploadKind::Stuck),
    ]
}

fn script() -> impl Strategy<Value = Script> {
    let ending = prop_oneof![
        8 => answer().prop_map(Ending::Answer),
        1 => Just(Ending::Error),
        1 => Just(Ending::Panic),
    ];
    (any::<bool>(), 0..3_u8, nap(), ending).prop_map(|(reads_upload, yields, nap, ending)| Script {
        reads_upload,
        yields,
        nap,
        ending,
    })
}

fn answer() -> impl Strategy<Value = Answer> {
    let status = prop_oneof![
        6 => Just(201_u16),
        1 => Just(404),
        1 => Just(500),
        1 => Just(401),
    ];
    let seldom = || prop_oneof![15 => Just(false), 1 => Just(true)];
    (status, seldom(), seldom(), body()).prop_map(|(status, do_not_keep, binary, body)| Answer {
        status,
        do_not_keep,
        binary,
        body,
    })
}

fn body() -> impl Strategy<Value = BodyScript> {
    let sizing = prop_oneof![
        4 => Just(Sizing::Exact),
        4 => Just(Sizing::Unknown),
        1 => Just(Sizing::Understated),
        1 => Just(Sizing::Overstated),
    ];
    let end = prop_oneof![
        6 => Just(BodyEnd::Whole),
        1 => Just(BodyEnd::Trailers),
        1 => Just(BodyEnd::Broken),
        1 => Just(BodyEnd::Panic),
    ];
    (sizing, vec(0..40_u8, 0..4), nap(), end).prop_map(|(sizing, frames, nap, end)| BodyScript {
        sizing,
        frames,
        nap,
        end: match (sizing, end) {
            // What follows a body that is too short is of no interest to anybody.
            (Sizing::Overstated, BodyEnd::Trailers) => BodyEnd::Whole,
            (_, end) => end,
        },
    })
}

fn nap() -> impl Strategy<Value = Nap> {
    prop_oneof![
        6 => Just(Nap::None),
        2 => (1..2500_u16).prop_map(Nap::Millis),
        1 => Just(Nap::Third),
        1 => Just(Nap::TwoLeases),
    ]
}

fn time() -> impl Strategy<Value = Time> {
    prop_oneof![
        4 => (1..700_u16).prop_map(Time::Millis),
        3 => Just(Time::Third),
        3 => Just(Time::Lease),
        1 => Just(Time::Ttl),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        Just(Call::Begin),
        Just(Call::Complete),
        Just(Call::Renew),
        Just(Call::Release),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        2 => prop_oneof![
            Just(StoreErrorKind::Unavailable),
            Just(StoreErrorKind::Full),
            Just(StoreErrorKind::Corrupt),
        ].prop_map(Fault::Fail),
        2 => Just(Fault::FailAfter(StoreErrorKind::Unavailable)),
        2 => Just(Fault::Hang),
        2 => Just(Fault::HangAfter),
        1 => Just(Fault::Lie),
        2 => prop_oneof![Just(100), Just(300)]
            .prop_map(|millis| Fault::Late(Duration::from_millis(millis))),
    ]
}
