//! How long a client would wait: the preference `wait` of RFC 7240.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Response};

/// How long a request waits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) limit: Duration,
    /// What to answer to a client that has said how long it would wait.
    pub(crate) applied: Option<HeaderValue>,
}

impl Wait {
    /// Reads how long a client would wait, which is no longer than `max`.
    pub(crate) fn of(max: Duration, headers: &HeaderMap) -> Self {
        let values = headers.get_all(PREFER).iter();
        let mut preferences = values.flat_map(|value| value.as_bytes().split(unquoted(b',')));
        let Some(seconds) = preferences.find_map(seconds_to_wait) else {
            return Self {
                limit: max,
                applied: None,
            };
        };
        let limit = max.min(Duration::from_secs(seconds));
        // Rounded up, so that the client never waits longer than it reads.
        let applied = seconds.min(max.as_secs() + u64::from(max.subsec_nanos() > 0));
        Self {
            limit,
            applied: HeaderValue::try_from(format!("wait={applied}")).ok(),
        }
    }
}

/// Says in a response which preference was honoured, if there is one.
pub(crate) fn apply<B>(applied: Option<HeaderValue>, response: &mut Response<B>) {
    if let Some(applied) = applied {
        // A map that is full goes out without.
        let _ = response
            .headers_mut()
            .try_append(PREFERENCE_APPLIED, applied);
    }
}

/// Reads a preference: its seconds, if it is a well-formed `wait`. More than fit are as many as fit.
fn seconds_to_wait(preference: &[u8]) -> Option<u64> {
    let (preference, _parameters) = halves(preference, b';');
    let (name, value) = halves(preference, b'=');
    if !name.trim_ascii().eq_ignore_ascii_case(b"wait") {
        return None;
    }
    let value = value?.trim_ascii();
    let quoted = value.strip_prefix(b"\"");
    let quoted = quoted.and_then(|value| value.strip_suffix(b"\""));
    let digits = quoted.unwrap_or(value);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |number: u64, digit: &u8| {
        let tens = number.saturating_mul(10);
        tens.saturating_add(u64::from(digit - b'0'))
    };
    Some(digits.iter().fold(0, add))
}

/// Splits at the first separator outside of quotes.
fn halves(text: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    let mut halves = text.splitn(2, unquoted(separator));
    (halves.next().unwrap_or_default(), halves.next())
}

/// Finds separators outside of quotes.
fn unquoted(separator: u8) -> impl FnMut(&u8) -> bool {
    let (mut is_quoted, mut is_escaped) = (false, false);
    move |byte| {
        if std::mem::take(&mut is_escaped) {
            return false;
        }
        match byte {
            b'\\' => is_escaped = is_quoted,
            b'"' => is_quoted = !is_quoted,
            _ => {}
        }
        !is_quoted && *byte == separator
    }
}

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(max: Duration, values: &[&str]) -> Wait {
        let values = values.iter().map(|value| {
            let value = HeaderValue::from_bytes(value.as_bytes());
            (PREFER, value.expect("a valid value"))
        });
        Wait::of(max, &values.collect())
    }

    #[test]
    fn the_first_well_formed_wait_counts_and_whatever_else_is_ignored() {
        let max = Duration::from_secs(60);
        for (values, seconds) in [
            (&["wait=5"][..], Some(5)),
            (&["WAIT = 5 ; x=1"], Some(5)),
            (&["wait=\"5\""], Some(5)),
            (&["wait=0"], Some(0)),
            (&["wait=007"], Some(7)),
            (&["respond-async, wait=5"], Some(5)),
            (&["respond-async", "handling=lenient,wait=5"], Some(5)),
            (&["wait=5, wait=6", "wait=7"], Some(5)),
            (&["wait=soon, wait=6"], Some(6)),
            (&["x=\"wait=1, wait=2\", wait=3"], Some(3)),
            (&["x=\"\\\", wait=1\", wait=3"], Some(3)),
            (&["x=1; wait=2"], None),
            (&["x=\"wait=1"], None),
            (&[], None),
            (&[""], None),
            (&[", ,;,=,\"\\"], None),
            (&["wait"], None),
            (&["wait="], None),
            (&["wait=\"\""], None),
            (&["wait=-1"], None),
            (&["wait=+1"], None),
            (&["wait=1.5"], None),
            (&["wait=1 2"], None),
            (&["wait=\u{664}"], None),
            (&["waiting=5"], None),
        ] {
            let wait = wait(max, values);
            let limit = seconds.map_or(max, Duration::from_secs);
            assert_eq!(wait.limit, limit, "{values:?}");
            let applied = seconds.map(|seconds| format!("wait={seconds}"));
            let said = wait.applied.as_ref();
            let said = said.map(|value| value.to_str().expect("text").to_owned());
            assert_eq!(said, applied, "{values:?}");
        }
    }

    #[test]
    fn nobody_waits_longer_than_the_layer_says_and_the_answer_says_so() {
        for (max, value, applied) in [
            (Duration::from_secs(1), "wait=10", "wait=1"),
            (Duration::from_millis(1500), "wait=10", "wait=2"),
            (
                Duration::from_secs(1),
                "wait=99999999999999999999999",
                "wait=1",
            ),
        ] {
            let wait = wait(max, &[value]);
            assert_eq!(wait.limit, max);
            assert_eq!(wait.applied.expect("a wait"), applied);
        }
    }
}
