//! The kit catches stores that are wrong, each by the case that is named after the guarantee.

use std::pin::Pin;

use tower_idempotency::store::conformance::{
    Case, Clock, a_full_store_keeps_what_it_has, cases, the_room_of_what_ended_is_given_back,
};

use super::faulty::{Fault, FaultyStore};
use super::panics;

#[test]
fn a_store_without_a_fault_passes_every_case() {
    let mut names: Vec<_> = cases::<FaultyStore>().iter().map(Case::name).collect();
    names.extend([ROOM, BOUNDED]);
    for name in names {
        assert!(!fails(Fault::None, name), "{name} fails");
    }
}

#[test]
fn a_store_with_a_fault_is_caught_by_the_case_that_names_it() {
    let missed: Vec<_> = FAULTS
        .iter()
        .filter(|(fault, case)| !fails(*fault, case))
        .collect();
    assert!(missed.is_empty(), "not caught: {missed:#?}");
}

fn fails(fault: Fault, case: &'static str) -> bool {
    panics(case, move || running(fault, case))
}

fn running(fault: Fault, case: &'static str) -> Pin<Box<dyn Future<Output = ()>>> {
    let (store, clock) = (FaultyStore::new(fault), Clock::paused());
    match case {
        ROOM => {
            let room = async |store: &FaultyStore| store.len();
            Box::pin(the_room_of_what_ended_is_given_back(store, clock, room))
        }
        BOUNDED => Box::pin(a_full_store_keeps_what_it_has(store.limit(100), clock)),
        name => {
            let cases = cases::<FaultyStore>();
            let case = cases.iter().find(|case| case.name() == name);
            case.expect("a case of this name").run(store, clock)
        }
    }
}

const ROOM: &str = "the_room_of_what_ended_is_given_back";
const BOUNDED: &str = "a_full_store_keeps_what_it_has";

const FAULTS: &[(Fault, &str)] = &[
    (
        Fault::GetThenSetClaim,
        "exactly_one_of_64_concurrent_claims_starts",
    ),
    (
        Fault::ClaimTakesOver,
        "a_claim_of_a_key_in_progress_reports_that",
    ),
    (
        Fault::ClaimReplacesRecord,
        "a_claim_of_a_completed_key_gets_its_record",
    ),
    (
        Fault::AskersFingerprint,
        "a_claim_of_a_key_in_progress_reports_that",
    ),
    (
        Fault::FingerprintOfTheFirstEver,
        "a_claim_after_the_lease_ended_starts",
    ),
    (
        Fault::TakeoverKeepsTheFirstOwner,
        "an_owner_does_not_hold_the_claim_that_followed",
    ),
    (
        Fault::UnfencedComplete,
        "a_stranger_does_not_hold_a_key_in_progress",
    ),
    (Fault::UnfencedRenew, "a_stranger_does_not_prolong_a_lease"),
    (
        Fault::UnfencedRelease,
        "a_stranger_does_not_hold_a_key_in_progress",
    ),
    (
        Fault::FencedByFingerprint,
        "a_stranger_does_not_hold_a_key_in_progress",
    ),
    (Fault::OwnerTruncated, "extreme_terms_and_tokens_are_taken"),
    (
        Fault::FirstOwnerIsForever,
        "an_owner_does_not_hold_the_claim_that_followed",
    ),
    (
        Fault::LateRenew,
        "an_owner_does_not_hold_a_lease_that_ended",
    ),
    (
        Fault::LateRelease,
        "an_owner_does_not_hold_a_lease_that_ended",
    ),
    (
        Fault::CompletedRecordOverwritten,
        "a_completed_key_is_not_held_by_its_owner",
    ),
    (
        Fault::ReleaseOfCompletedKey,
        "a_completed_key_is_not_held_by_its_owner",
    ),
    (
        Fault::RenewOfCompletedKey,
        "a_ttl_is_not_prolonged_by_renew",
    ),
    (
        Fault::ReleaseTwiceIsHeld,
        "a_released_key_is_not_held_by_its_owner",
    ),
    (
        Fault::RenewDoesNothing,
        "renew_by_the_owner_prolongs_the_lease",
    ),
    (
        Fault::ReleaseDoesNothing,
        "release_by_the_owner_frees_the_key",
    ),
    (
        Fault::GetThenSetComplete,
        "exactly_one_concurrent_ending_is_taken",
    ),
    (
        Fault::CompleteOfAbsentKeyLost,
        "complete_of_an_absent_key_keeps_the_record",
    ),
    (
        Fault::CompleteAfterTheLeaseLost,
        "complete_after_the_lease_ended_keeps_the_record",
    ),
    (
        Fault::CompleteAfterTheLeaseOfAnotherLost,
        "complete_after_the_lease_of_another_ended_keeps_the_record",
    ),
    (
        Fault::CompleteAfterTheTtlLost,
        "complete_after_the_ttl_ended_keeps_the_record",
    ),
    (
        Fault::CompleteOfReleasedKeyLost,
        "complete_of_a_released_key_keeps_the_record",
    ),
    (
        Fault::LateRecordForgotten,
        "complete_after_the_lease_ended_keeps_the_record",
    ),
    (
        Fault::LateRecordWithoutEnd,
        "a_late_record_ends_when_asked_for",
    ),
    (
        Fault::GetThenSetLateComplete,
        "a_late_completion_and_a_claim_exclude_each_other",
    ),
    (
        Fault::GetThenSetLateComplete,
        "a_completion_without_a_claim_and_a_claim_exclude_each_other",
    ),
    (Fault::TtlUsedAsLease, "a_lease_ends_when_asked_for"),
    (Fault::LeaseUsedAsTtl, "a_record_outlives_the_lease"),
    (Fault::TtlFromTheClaim, "a_ttl_ends_when_asked_for"),
    (
        Fault::LeaseExpiryForgotten,
        "a_claim_after_the_lease_ended_starts",
    ),
    (
        Fault::RecordExpiryForgotten,
        "a_claim_after_the_ttl_ended_starts",
    ),
    (Fault::LeaseProlongedByAskers, "a_lease_ends_when_asked_for"),
    (Fault::TtlProlongedByReplays, "a_ttl_ends_when_asked_for"),
    (
        Fault::RenewAddsToTheLease,
        "a_renewed_lease_ends_when_asked_for",
    ),
    (Fault::EndsATenthEarly, "a_lease_ends_when_asked_for"),
    (
        Fault::WholeSecondsRoundedDown,
        "a_lease_ends_when_asked_for",
    ),
    (Fault::WholeSecondsRoundedUp, "a_ttl_ends_when_asked_for"),
    (Fault::OneEndForAll, "each_key_ends_by_itself"),
    (Fault::HeadersMerged, "header_fields_come_back_in_order"),
    (Fault::HeadersSorted, "header_fields_come_back_in_order"),
    (
        Fault::HeadersWithoutEmptyOnes,
        "header_fields_come_back_in_order",
    ),
    (Fault::HeadersAsUtf8, "header_fields_come_back_in_order"),
    (
        Fault::BodyTruncatedAt64KiB,
        "a_body_comes_back_byte_for_byte",
    ),
    (Fault::BodyAsCString, "a_body_comes_back_byte_for_byte"),
    (Fault::BodyAsUtf8, "a_body_comes_back_byte_for_byte"),
    (Fault::NoBodyBecomesEmpty, "a_body_comes_back_byte_for_byte"),
    (Fault::StatusOutOfRange, "every_status_comes_back"),
    (Fault::FingerprintLost, "a_fingerprint_comes_back_as_given"),
    (Fault::KeyTruncated, "keys_that_differ_in_one_bit_are_apart"),
    (Fault::KeyAsCString, "keys_that_differ_in_one_bit_are_apart"),
    (
        Fault::KeyWithoutCase,
        "keys_that_differ_in_one_bit_are_apart",
    ),
    (
        Fault::CompleteInTwoHalves,
        "a_completion_given_up_is_made_or_not",
    ),
    (Fault::ClaimInTwoHalves, "a_claim_given_up_is_made_or_not"),
    (Fault::LockKeptOnCancel, "a_release_given_up_is_made_or_not"),
    (Fault::RoomKept, ROOM),
    (Fault::RoomOfLateRecordsKept, ROOM),
    (Fault::OldestDroppedWhenFull, BOUNDED),
    (Fault::OldestDroppedForALateRecord, BOUNDED),
    (Fault::FullForThoseWhoHold, BOUNDED),
];
