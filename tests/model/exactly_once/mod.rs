//! A model of handlers that write their record in their own transaction, explored exhaustively.
//!
//! It stands on the contract of `Store`, as the other model does, and adds what
//! `TransactionalStore::complete_in` promises: the step of `complete`, but taken with the caller's
//! commit, under the row's lock. Locks are PostgreSQL's, for one key; in SQLite a transaction locks
//! all of the database, so less can happen.
//!
//! There is no time here. A lease may end at any moment, and a step may come as late as it likes: a
//! process that is stopped is one that takes no step. So renewals change nothing and are left out.
//! A ttl is longer than all of this.
//!
//! No run is excused: the properties hold over all faults. And they hold to the end. No history can
//! go round in a circle, so each one ends, and where it ends every client knows of the one effect.
//!
//! `state` says what there is, `database`, `handler` and `layer` take the steps, `protocol` says
//! which step may come when and what must hold, and `reached` what must not be missed.

mod database;
mod handler;
mod layer;
mod protocol;
mod reached;
mod state;

use self::protocol::{DENIED, END, ONE, OVERTAKEN, Protocol, TOGETHER, TOLD};
use self::state::Faults;
use crate::explore::{assert_breaks, assert_every_history_ends, assert_holds};
use crate::mutation::Mutation;

#[test]
fn there_is_one_effect_over_a_stop_a_kill_and_a_crash_of_the_database() {
    explore(faults(|f| {
        (f.errors, f.retries) = (1, 1);
        (f.stops, f.kills, f.crashes) = (1, 1, 1);
    }));
}

#[test]
fn there_is_one_effect_over_a_lost_call_a_refused_claim_and_a_handler_that_begins_anew() {
    explore(faults(|f| {
        (f.timeouts, f.refusals, f.errors, f.retries, f.leaves) = (1, 1, 1, 1, 1);
    }));
}

#[test]
fn there_is_one_effect_over_errors_while_the_layer_asks_what_is_true() {
    explore(faults(|f| {
        (f.timeouts, f.errors, f.retries, f.stops) = (2, 2, 1, 1);
    }));
}

#[test]
#[ignore = "explores 3.3 million states, which takes minutes without --release"]
fn there_is_one_effect_over_more_of_everything() {
    explore(faults(|f| {
        (f.timeouts, f.refusals, f.errors, f.retries) = (1, 1, 1, 1);
        (f.stops, f.kills, f.leaves, f.crashes) = (1, 1, 1, 1);
    }));
    explore(faults(|f| {
        (f.timeouts, f.errors, f.retries, f.kills) = (2, 2, 2, 1);
    }));
}

/// Claims spare work. At most one effect is a matter of the record alone.
#[test]
fn one_effect_does_not_rest_on_the_owner_of_a_release() {
    assert_holds(Protocol {
        clients: 2,
        faults: faults(|f| (f.timeouts, f.errors, f.stops, f.kills) = (1, 1, 1, 1)),
        mutation: Mutation::ReleaseWithoutOwner,
    });
}

#[test]
fn a_store_that_writes_a_record_over_what_is_there_is_caught() {
    let stop = faults(|f| f.stops = 1);
    assert_caught(Mutation::CompleteWithoutFence, stop, &[ONE, OVERTAKEN]);
    assert_caught(Mutation::CompleteWithoutOwner, stop, &[OVERTAKEN]);
    let error = faults(|f| (f.stops, f.errors) = (1, 1));
    assert_caught(Mutation::CompleteWithoutOwner, error, &[DENIED]);
    assert_caught(Mutation::NoLock, stop, &[ONE, TOLD, END]);
}

#[test]
fn a_store_that_loses_a_record_is_caught() {
    assert_caught(Mutation::ReleaseDropsRecords, NO_FAULTS, &[ONE, TOGETHER]);
}

#[test]
fn a_record_outside_of_the_transaction_is_caught() {
    let kill = faults(|f| f.kills = 1);
    assert_caught(Mutation::RecordApart, kill, &[TOGETHER, TOLD, END]);
    assert_caught(Mutation::CommitBeforeRecord, kill, &[TOGETHER, ONE]);
}

#[test]
fn a_database_that_forgets_is_caught() {
    assert_caught(
        Mutation::CommitNotDurable,
        faults(|f| f.crashes = 1),
        &[TOLD, END],
    );
}

#[test]
fn a_database_that_holds_a_key_for_ever_is_caught() {
    let kill = faults(|f| f.kills = 1);
    assert_caught(Mutation::ClaimsNeverEnd, kill, &[END]);
    assert_caught(Mutation::LockNeverEnds, kill, &[END]);
}

#[test]
fn a_handler_that_commits_without_its_record_is_caught() {
    let retry = faults(|f| (f.errors, f.retries) = (1, 1));
    assert_caught(Mutation::RecordWrittenOnce, retry, &[ONE, TOGETHER]);
    assert_caught(
        Mutation::LostIgnored,
        faults(|f| f.stops = 1),
        &[ONE, TOGETHER],
    );
}

#[test]
fn a_handler_that_never_commits_is_caught() {
    assert_caught(Mutation::NeverCommitted, NO_FAULTS, &[TOLD, END]);
}

#[test]
fn a_layer_that_does_not_ask_what_is_true_is_caught() {
    let error = faults(|f| f.errors = 1);
    assert_caught(Mutation::TruthNotAsked, error, &[DENIED]);
    assert_caught(Mutation::OnlySuccessCounts, error, &[DENIED]);
    let refused = faults(|f| (f.errors, f.refusals) = (1, 1));
    assert_caught(Mutation::TruthAskedIfHeld, refused, &[DENIED]);
    let retry = faults(|f| (f.errors, f.retries) = (1, 1));
    assert_caught(Mutation::LastCallCounts, retry, &[DENIED]);
}

#[test]
fn a_layer_that_does_not_wait_for_the_truth_is_caught() {
    let error = faults(|f| f.errors = 1);
    assert_caught(Mutation::TruthIsRead, error, &[DENIED]);
    assert_caught(Mutation::TruthAskedByBegin, error, &[DENIED]);
    assert_caught(Mutation::LostTakenAsRolledBack, error, &[DENIED]);
    let timeout = faults(|f| (f.errors, f.timeouts) = (1, 1));
    assert_caught(Mutation::UnknownTakenAsRolledBack, timeout, &[DENIED]);
}

#[test]
fn a_layer_that_reports_a_success_which_did_not_happen_is_caught() {
    let error = faults(|f| f.errors = 1);
    assert_caught(Mutation::LostTakenAsCommitted, error, &[TOLD]);
    assert_caught(Mutation::InProgressTakenAsCommitted, error, &[TOLD]);
    assert_caught(Mutation::RecordAfterRollback, error, &[TOGETHER, TOLD]);
}

const NO_FAULTS: Faults = Faults {
    timeouts: 0,
    refusals: 0,
    errors: 0,
    retries: 0,
    stops: 0,
    kills: 0,
    leaves: 0,
    crashes: 0,
};

fn faults(set: impl FnOnce(&mut Faults)) -> Faults {
    let mut faults = NO_FAULTS;
    set(&mut faults);
    faults
}

/// Explores the protocol as it is, to the end.
#[track_caller]
fn explore(faults: Faults) {
    let protocol = Protocol {
        clients: 2,
        faults,
        mutation: Mutation::None,
    };
    assert_holds(protocol);
    assert_every_history_ends(&protocol);
}

/// Explores a wrong protocol until these properties fail.
#[track_caller]
fn assert_caught(mutation: Mutation, faults: Faults, by: &[&'static str]) {
    let protocol = Protocol {
        clients: 2,
        faults,
        mutation,
    };
    assert_breaks(protocol, by);
}
