//! The key header: taken if there is one line of 1 to 255 bytes of printable ASCII, or refused.

use http::{HeaderMap, HeaderValue};
use tower_idempotency::{IdempotencyKey, InvalidKey, Outcome};

use super::exchange::Exchange;
use super::input::Input;

/// One field line a line.
pub fn parse(text: &[u8]) -> Vec<Vec<u8>> {
    let lines = text.split(|byte| *byte == b'\n').take(8);
    lines.map(<[u8]>::to_vec).collect()
}

pub fn check(lines: &[Vec<u8>]) {
    for line in lines {
        if let Ok(text) = std::str::from_utf8(line) {
            let key = IdempotencyKey::new(text);
            assert_eq!(key.is_ok(), is_valid(line), "new of {text:?}");
            if let Ok(key) = key {
                assert_eq!(key.as_str(), text);
            }
        }
    }
    // A server lets no other lines through.
    let lines = lines
        .iter()
        .filter_map(|line| HeaderValue::from_bytes(line).ok());
    check_header(&lines.collect::<Vec<_>>());
}

fn check_header(lines: &[HeaderValue]) {
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", HeaderValue::from_static("secret"));
    for line in lines {
        headers.append("idempotency-key", line.clone());
    }
    let seen = Exchange::with(|exchange| async move {
        let response = exchange.send(&Input::post(headers)).await;
        (response.outcome(), exchange)
    });
    let (outcome, exchange) = seen;
    let given = exchange.handler_key();
    match lines {
        [] => assert_eq!(outcome.as_str(), "passed_through_no_key"),
        [key] if is_valid(key.as_bytes()) => {
            assert_eq!(outcome, Outcome::Kept);
            assert_eq!(
                given.as_ref().map(|key| key.as_str().as_bytes()),
                Some(key.as_bytes())
            );
        }
        [key] => {
            let why = match key.len() {
                0 => InvalidKey::Empty,
                256.. => InvalidKey::TooLong,
                _ => InvalidKey::NotPrintableAscii,
            };
            assert_eq!(outcome, Outcome::InvalidKey(why));
        }
        _ => assert_eq!(outcome, Outcome::InvalidKey(InvalidKey::Repeated)),
    }
    let is_refused = matches!(outcome, Outcome::InvalidKey(_));
    assert_eq!(exchange.runs(), usize::from(!is_refused));
    // Claimed and completed, or not touched at all.
    assert_eq!(
        exchange.store_calls(),
        if outcome == Outcome::Kept { 2 } else { 0 }
    );
}

pub fn is_valid(key: &[u8]) -> bool {
    (1..=255).contains(&key.len()) && key.iter().all(|byte| matches!(byte, b' '..=b'~'))
}
