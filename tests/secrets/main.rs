//! Tokens, keys and request bodies show up nowhere: not in logs, debug forms, errors or the store.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

mod onlooker;
mod watched;

use std::collections::BTreeSet;
use std::time::Duration;

use http::StatusCode;
use support::{Frames, Piece};
use tower_idempotency::store::{
    Begin, DynStore, Fingerprint, MalformedRecord, Record, StoreErrorKind,
};
use tower_idempotency::{CallerId, IdempotencyKey, InvalidKey, MemoryStore, RecordKey};

use self::onlooker::{BODY, KEY, Onlooker, TARGET, TOKEN};
use self::watched::{Mode, Script, World, request};

#[tokio::test(start_paused = true)]
async fn no_outcome_shows_a_token_a_key_or_a_body() {
    let onlooker = Onlooker::default();
    let _logs = log_to(&onlooker);
    let mut world = World {
        onlooker: onlooker.clone(),
        outcomes: BTreeSet::new(),
    };

    // Kept, replayed, reused, and refused.
    let works = world.layer(Mode::Works);
    world.post(&works).await;
    world.post(&works).await;
    let usual = Script::new(200, || Frames::exact(["fine"]));
    for (method, keys) in [
        ("GET", &[KEY][..]),
        ("PUT", &[KEY]),
        ("POST", &[]),
        ("POST", &[""]),
        ("POST", &[KEY, KEY]),
        ("POST", &[&KEY.repeat(12)]),
        ("POST", &[&format!("{KEY}\t")]),
    ] {
        world.send(&works, request(method, keys), &usual).await;
    }
    world
        .send(
            &works.clone().require_key(true),
            request("POST", &[]),
            &usual,
        )
        .await;
    world
        .send(
            &works.clone().caller(|_| None),
            request("POST", &[KEY]),
            &usual,
        )
        .await;

    world
        .send(
            &works.clone().caller(|_| None).require_key(true),
            request("POST", &[KEY]),
            &usual,
        )
        .await;
    let panics = world.layer(Mode::Works).keep_if(|_| panic!("the rule"));
    world.send(&panics, request("POST", &[KEY]), &usual).await;

    // Not kept, or not as a whole.
    world
        .answer(&Script::new(503, || Frames::exact(["later"])))
        .await;
    world
        .answer(&Script {
            do_not_keep: true,
            ..usual.clone()
        })
        .await;
    let bodies: [fn() -> Frames; 3] = [
        || {
            Frames::exact([
                "a body that is longer than what is kept, which are 64 bytes in this test",
            ])
        },
        || {
            // Not there yet when the head is sent.
            let later = tokio::time::sleep(Duration::from_secs(1));
            let later = Piece::Until(Box::pin(later));
            Frames::unknown([Piece::Data("half"), later, Piece::Break])
        },
        || Frames::exact([Piece::Data("half"), Piece::Break]),
    ];
    for body in bodies {
        world.answer(&Script::new(200, body)).await;
    }
    let half = Frames::exact([Piece::Data(BODY), Piece::Break]);
    let torn = request("POST", &[KEY]).map(|_| half);
    world.send(&world.layer(Mode::Works), torn, &usual).await;

    // A store that fails in each way, at each step; the handler is slow, so the lease is renewed.
    let slow = Script {
        takes: Duration::from_secs(100),
        ..usual.clone()
    };
    for mode in [
        Mode::Fails(StoreErrorKind::Unavailable),
        Mode::Fails(StoreErrorKind::Timeout),
        Mode::Fails(StoreErrorKind::Full),
        Mode::Fails(StoreErrorKind::Corrupt),
        Mode::Fails(StoreErrorKind::Misconfigured),
        Mode::FailsAfterBegin,
        Mode::Hangs,
        Mode::Forgets,
    ] {
        let layer = world.layer(mode);
        world.send(&layer, request("POST", &[KEY]), &slow).await;
        let not_kept = Script {
            status: 503,
            ..slow.clone()
        };
        world
            .send(&layer, request("POST", &["another-key"]), &not_kept)
            .await;
        layer
            .detached()
            .wait(Duration::from_secs(600))
            .await
            .unwrap();
    }

    // One that is still running, and whose client leaves.
    let layer = world.layer(Mode::Works);
    let running = world.send(&layer, request("POST", &[KEY]), &slow);
    tokio::time::timeout(Duration::from_secs(1), running)
        .await
        .unwrap_err();
    world.post(&layer).await;
    onlooker.debug(layer.detached());
    onlooker.both(
        layer
            .detached()
            .wait(Duration::from_millis(1))
            .await
            .unwrap_err(),
    );
    layer
        .detached()
        .wait(Duration::from_secs(600))
        .await
        .unwrap();

    let every: BTreeSet<_> = OUTCOMES.into_iter().collect();
    assert_eq!(world.outcomes, every);
    let logs = onlooker.text();
    for event in EVENTS {
        assert_eq!(
            logs.contains(event),
            cfg!(feature = "tracing"),
            "{event:?} in the log"
        );
    }
    onlooker.assert_no_secrets();
}

#[test]
fn no_public_value_shows_a_token_a_key_or_a_body() {
    let onlooker = Onlooker::default();
    let request = request("POST", &[KEY]);
    let caller = CallerId::from_credentials(request.headers()).unwrap();
    let key = IdempotencyKey::new(KEY).unwrap();
    let fingerprint = Fingerprint::new(request.method(), request.uri());
    onlooker.debug(caller);
    onlooker.debug(CallerId::new(TOKEN));
    onlooker.see(caller.as_bytes());
    onlooker.both(RecordKey::new(&caller, &key));
    onlooker.debug(&key);
    onlooker.debug(fingerprint);
    // A response that does hold a secret is kept, and still is not shown.
    let headers = [(&http::header::LOCATION, &TARGET.parse().unwrap())];
    let record = Record::new(fingerprint, StatusCode::OK, headers, Some(BODY.as_bytes()));
    onlooker.debug(&record);
    onlooker.debug(Begin::Completed(record));
    onlooker.both(MalformedRecord);
    for invalid in [
        IdempotencyKey::new(KEY.repeat(12)).unwrap_err(),
        IdempotencyKey::new(format!("{KEY}\n")).unwrap_err(),
        InvalidKey::Repeated,
    ] {
        onlooker.both(invalid);
    }
    let store = MemoryStore::new();
    onlooker.debug(&store);
    onlooker.debug(DynStore::new(store));
    onlooker.assert_no_secrets();
}

#[test]
#[should_panic(expected = "a part of \"0rder-4711-of-Alice-b25d\" was seen")]
fn an_onlooker_who_sees_a_part_of_a_key_is_noticed() {
    let onlooker = Onlooker::default();
    onlooker.debug(&KEY.as_bytes()[3..14]);
    onlooker.assert_no_secrets();
}

/// Writes all that is logged in this thread, which is where the runtime runs.
fn log_to(onlooker: &Onlooker) -> tracing::subscriber::DefaultGuard {
    let writer = onlooker.clone();
    let logs = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_default(logs)
}

/// Each outcome that there is.
const OUTCOMES: [&str; 23] = [
    "passed_through_method",
    "passed_through_no_key",
    "passed_through_no_caller",
    "kept",
    "kept_without_body",
    "recording",
    "not_kept_rule",
    "not_kept_do_not_keep",
    "not_kept_broken_upload",
    "not_kept_broken_body",
    "not_kept_rule_panicked",
    "not_kept_lease_lost",
    "store_unavailable",
    "store_timeout",
    "store_full",
    "store_corrupt",
    "store_misconfigured",
    "replayed",
    "in_progress",
    "key_reused",
    "missing_key",
    "invalid_key",
    "unknown_caller",
];

/// A word of each log event that this test can bring about.
const EVENTS: [&str; 11] = [
    "is not protected",
    "step=\"begin\"",
    "step=\"renew\"",
    "step=\"complete\"",
    "step=\"release\"",
    "connection refused",
    "the idempotency store failed again",
    "can't be read",
    "the rule of keep_if panicked",
    "the lease of an idempotency key was lost",
    "the client left",
];
