//! Bad input: properties that hold for any, and the seeds and finds of the fuzz targets.
//!
//! The checks are shared with the fuzz targets in `fuzz/`, which look for worse input for longer.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]
#![allow(unreachable_pub, reason = "shared with the fuzz targets")]

mod check;
mod seeds;
mod strategy;

use http::StatusCode;
use proptest::prelude::*;
use tower_idempotency::store::{Fingerprint, Record};

proptest! {
    // Four times as many cases as is usual: a few seconds. `PROPTEST_CASES` sets the quarter.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases * 4,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_key_is_taken_if_it_is_one_line_of_1_to_255_printable_ascii_bytes(
        lines in strategy::key_lines()
    ) {
        check::key::check(&lines);
    }

    #[test]
    fn two_requests_have_one_caller_if_their_credentials_are_equal(
        (one, other) in strategy::two_callers()
    ) {
        check::caller::check(&one, &other);
    }

    #[test]
    fn a_response_is_kept_by_its_status_its_type_and_its_disposition(
        status in strategy::status(),
        fields in strategy::fields(strategy::RESPONSE)
    ) {
        check::keep::check(status, &fields);
    }

    #[test]
    fn a_record_comes_back_from_its_bytes(
        fingerprint in any::<[u8; 32]>(),
        status in strategy::status(),
        fields in strategy::fields(strategy::RESPONSE),
        body in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..64))
    ) {
        let fingerprint = Fingerprint::from_bytes(fingerprint);
        check::record::check(fingerprint, status, &fields, body.as_deref());
    }

    #[test]
    fn damaged_bytes_are_no_record_or_one_that_holds_them_all(
        fields in strategy::fields(strategy::RESPONSE),
        damage in strategy::damage(),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>())
    ) {
        let pairs = fields.iter().map(|(name, value)| (name, value));
        let fingerprint = Fingerprint::from_bytes([7; 32]);
        let body = b"a body of some length";
        let record = Record::new(fingerprint, StatusCode::OK, pairs, Some(body));
        let mut bytes = record.as_bytes().to_vec();
        for (at, is_in_front, byte) in damage {
            let at = at.index(if is_in_front { 2 } else { bytes.len() });
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        check::record::check_bytes(&bytes);
    }

    #[test]
    fn a_request_runs_once_is_replayed_as_it_was_or_is_refused_untouched(
        input in strategy::request()
    ) {
        check::request::check(&input);
    }
}
