//! A model of the protocol between the layer and a store, explored exhaustively.
//!
//! A second model, of handlers that write their record in their own transaction, is in
//! `exactly_once`.
//!
//! The first model is the protocol of `src/guarded` over the contract of
//! `tower_idempotency::Store`, for one key: keys have nothing in common. Left out is what can't
//! make a difference to who runs and what is kept: bytes, fingerprints, the client's comings and
//! goings (a request whose client has left is carried on), and room in the store.
//!
//! A process is asynchronous, but not wholly: one that is awake meets its deadlines, and whatever
//! keeps it from that is a pause. A call that is given up takes no time, since `store_timeout` is
//! far below a third of a lease. Where it is not, a lost renewal may cost the lease.
//!
//! `state` and `request` say what there is, `store` and `layer` take the steps, `protocol` says
//! which step may come when and what must hold, and `mutation` lists the mistakes that must be
//! found.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

mod exactly_once;
mod explore;
mod layer;
mod mutation;
mod protocol;
mod request;
mod state;
mod store;

use crate::explore::{assert_breaks, assert_holds};
use crate::mutation::Mutation;
use crate::protocol::{FREED, KEPT, OVERLAP, Protocol, RECORD, REPLAY, SECOND_RUN, STUCK};
use crate::state::Faults;

#[test]
fn the_protocol_holds_over_a_lost_call_a_pause_and_a_crash() {
    explore(
        2,
        3,
        faults(|f| (f.timeouts, f.pauses, f.crashes) = (1, 1, 1)),
    );
}

#[test]
fn the_protocol_holds_over_an_outage_a_pause_and_a_crash() {
    explore(
        2,
        2,
        faults(|f| (f.outages, f.refusals, f.pauses, f.crashes) = (1, 1, 1, 1)),
    );
}

#[test]
fn the_protocol_holds_over_an_outage_and_a_lost_call() {
    explore(2, 2, faults(|f| (f.timeouts, f.outages) = (1, 1)));
}

#[test]
#[ignore = "explores 2.3 million states, which takes a minute without --release"]
fn the_protocol_holds_over_more_of_everything() {
    explore(
        3,
        3,
        faults(|f| (f.timeouts, f.pauses, f.crashes) = (1, 1, 1)),
    );
    explore(
        2,
        2,
        faults(|f| (f.timeouts, f.pauses, f.crashes) = (2, 1, 1)),
    );
    explore(2, 3, faults(|f| f.outages = 1));
    explore(
        2,
        2,
        faults(|f| {
            (f.timeouts, f.outages, f.refusals, f.pauses, f.crashes) = (1, 1, 1, 1, 1);
        }),
    );
}

#[test]
fn a_store_that_claims_in_two_steps_is_caught() {
    assert_caught(Mutation::BeginInTwoSteps, NO_FAULTS, &[OVERLAP]);
}

#[test]
fn a_store_that_does_not_fence_complete_is_caught() {
    let pause = faults(|f| f.pauses = 1);
    assert_caught(Mutation::CompleteWithoutFence, pause, &[RECORD, REPLAY]);
}

#[test]
fn a_store_that_refuses_a_late_completion_is_caught() {
    let pause = faults(|f| f.pauses = 1);
    assert_caught(Mutation::LateCompleteLost, pause, &[SECOND_RUN]);
}

#[test]
fn a_store_that_renews_for_a_stranger_is_caught() {
    let pause_and_crash = faults(|f| (f.pauses, f.crashes) = (1, 1));
    assert_caught(Mutation::RenewWithoutOwner, pause_and_crash, &[STUCK]);
}

#[test]
fn a_store_that_releases_for_a_stranger_is_caught() {
    let pause = faults(|f| f.pauses = 1);
    assert_caught(Mutation::ReleaseWithoutOwner, pause, &[OVERLAP]);
    assert_caught(Mutation::ReleaseDropsRecords, pause, &[RECORD]);
}

#[test]
fn a_store_that_takes_ttl_and_lease_for_one_another_is_caught() {
    assert_caught(Mutation::TtlAsLease, faults(|f| f.crashes = 1), &[STUCK]);
    assert_caught(Mutation::LeaseAsTtl, NO_FAULTS, &[RECORD]);
}

#[test]
fn a_layer_that_does_not_renew_is_caught() {
    assert_caught(Mutation::NoRenewal, NO_FAULTS, &[OVERLAP, SECOND_RUN]);
    let timeout = faults(|f| f.timeouts = 1);
    assert_caught(Mutation::RenewalGivesUp, timeout, &[OVERLAP]);
}

#[test]
fn a_layer_that_takes_a_lost_lease_for_a_kept_response_is_caught() {
    let pause = faults(|f| f.pauses = 1);
    assert_caught(Mutation::LostTakenAsKept, pause, &[KEPT]);
}

#[test]
fn a_layer_that_does_not_settle_what_it_may_hold_is_caught() {
    let timeout = faults(|f| f.timeouts = 1);
    assert_caught(Mutation::UnknownNotSettled, timeout, &[SECOND_RUN]);
    assert_caught(Mutation::CompleteNotRetried, timeout, &[SECOND_RUN]);
    assert_caught(Mutation::FreedWhenCompleteFails, timeout, &[SECOND_RUN]);
    assert_caught(Mutation::FailureNotReleased, NO_FAULTS, &[FREED]);
}

const NO_FAULTS: Faults = Faults {
    timeouts: 0,
    outages: 0,
    refusals: 0,
    pauses: 0,
    crashes: 0,
};

fn faults(set: impl FnOnce(&mut Faults)) -> Faults {
    let mut faults = NO_FAULTS;
    set(&mut faults);
    faults
}

/// Explores the protocol as it is, to the end.
#[track_caller]
fn explore(processes: usize, requests: usize, faults: Faults) {
    assert_holds(Protocol {
        processes,
        requests,
        faults,
        mutation: Mutation::None,
    });
}

/// Explores a wrong protocol until these properties fail.
#[track_caller]
fn assert_caught(mutation: Mutation, faults: Faults, by: &[&'static str]) {
    let protocol = Protocol {
        processes: 2,
        requests: 3,
        faults,
        mutation,
    };
    assert_breaks(protocol, by);
}
