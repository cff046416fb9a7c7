//! The kit's cases for transactions, on a table that is right, and on tables that are wrong on purpose.

mod table;
mod transaction;

use tower_idempotency::store::conformance::{Case, Clock, transactional_cases};

use self::table::{Fault, Table};
use super::panics;

mod in_a_table {
    use super::{Fault, Table};

    tower_idempotency::transactional_conformance_tests! {
        clock: paused,
        database: Table::new(Fault::None),
    }
}

mod in_a_table_in_real_time {
    use super::{Fault, Table};

    tower_idempotency::transactional_conformance_tests! {
        clock: real,
        database: Table::new(Fault::None),
    }
}

/// The table is a store, too, as any that is wrong in transactions alone.
mod without_transactions {
    use super::{Fault, Table};

    tower_idempotency::conformance_tests! {
        clock: paused,
        store: Table::new(Fault::None),
    }
}

#[test]
fn a_table_without_a_fault_passes_every_case() {
    for case in transactional_cases::<Table>() {
        let name = case.name();
        assert!(!fails(Fault::None, name), "{name} fails");
    }
}

#[test]
fn a_table_with_a_fault_is_caught_by_the_case_that_names_it() {
    let missed: Vec<_> = FAULTS
        .iter()
        .filter(|(fault, case)| !fails(*fault, case))
        .collect();
    assert!(missed.is_empty(), "not caught: {missed:#?}");
}

#[test]
fn every_case_for_transactions_catches_a_fault() {
    let cases = transactional_cases::<Table>();
    let idle: Vec<_> = cases.iter().map(Case::name).collect();
    let idle: Vec<_> = idle
        .into_iter()
        .filter(|name| !FAULTS.iter().any(|(_, case)| case == name))
        .collect();
    assert!(idle.is_empty(), "no fault is caught by {idle:?}");
}

fn fails(fault: Fault, case: &'static str) -> bool {
    panics(case, move || {
        let cases = transactional_cases::<Table>();
        let case = cases.iter().find(|found| found.name() == case);
        let case = case.expect("a case of this name");
        case.run(Table::new(fault), Clock::paused())
    })
}

const FAULTS: &[(Fault, &str)] = &[
    (
        Fault::KeepsNothing,
        "a_record_is_kept_once_its_transaction_is_committed",
    ),
    (
        Fault::IgnoresTheTransaction,
        "a_record_of_a_transaction_rolled_back_is_not_kept",
    ),
    (
        Fault::CommitsByItself,
        "a_record_of_a_transaction_rolled_back_is_not_kept",
    ),
    (
        Fault::RollBackFreesTheKey,
        "a_record_of_a_transaction_rolled_back_is_not_kept",
    ),
    (
        Fault::ClaimFindsWhatIsNotCommitted,
        "a_record_is_invisible_until_its_commit",
    ),
    (
        Fault::AbsentIsLost,
        "a_claim_that_never_arrived_is_made_and_completed_in_one",
    ),
    (Fault::LateIsLost, "a_late_record_is_kept_in_a_transaction"),
    (
        Fault::LateOfAnotherIsLost,
        "a_late_record_is_kept_in_a_transaction",
    ),
    (
        Fault::CutsABody,
        "a_record_at_the_limit_is_kept_in_a_transaction",
    ),
    (
        Fault::HurriedClaimIsNotMade,
        "a_claim_that_need_not_be_durable_is_a_claim",
    ),
    (
        Fault::HurriedClaimTakesOver,
        "a_claim_that_need_not_be_durable_is_a_claim",
    ),
    (
        Fault::NoOwner,
        "the_claim_of_another_is_not_completed_in_a_transaction",
    ),
    (
        Fault::FencedByFingerprint,
        "the_claim_of_another_is_not_completed_in_a_transaction",
    ),
    (
        Fault::OverwritesARecord,
        "a_record_is_not_replaced_in_a_transaction",
    ),
    (
        Fault::OverwritesItsOwnRecord,
        "a_record_is_not_replaced_in_a_transaction",
    ),
    (
        Fault::OverwritesTheRecordOfItsTransaction,
        "a_record_of_this_very_transaction_is_not_replaced",
    ),
    (
        Fault::ViewOfTheBegin,
        "what_came_since_the_transaction_began_is_not_replaced",
    ),
    (
        Fault::EndsByTheTimeOfTheBegin,
        "a_lease_that_ends_during_the_transaction_has_ended",
    ),
    (
        Fault::TtlFromTheBegin,
        "a_ttl_runs_from_the_call_in_a_transaction",
    ),
    (
        Fault::TtlFromTheCommit,
        "a_ttl_runs_from_the_call_in_a_transaction",
    ),
    (
        Fault::ReleaseDoesNotWait,
        "a_release_waits_for_the_transaction",
    ),
    (
        Fault::ReleaseIsLostAtOnce,
        "a_release_waits_for_the_transaction",
    ),
    (
        Fault::RenewDoesNotWait,
        "a_renewal_waits_for_the_transaction",
    ),
    (
        Fault::CompleteDoesNotWait,
        "a_completion_waits_for_the_transaction",
    ),
    (
        Fault::ClaimDoesNotWait,
        "a_claim_waits_for_a_record_that_is_not_committed",
    ),
    (
        Fault::ClaimDoesNotWait,
        "a_late_transaction_and_a_claim_exclude_each_other",
    ),
    (
        Fault::TransactionDoesNotWait,
        "of_two_transactions_on_one_key_at_most_one_is_committed",
    ),
    (
        Fault::TransactionDoesNotWait,
        "of_many_transactions_on_one_key_exactly_one_is_committed",
    ),
];
