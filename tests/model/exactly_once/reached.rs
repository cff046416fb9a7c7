//! What the model must get to, so that its properties say something.

use stateright::Property;

use super::protocol::Protocol;
use super::state::{Execution, Faults, Phase, State};
use crate::request::Known;
use crate::store::{Id, Slot};

pub(crate) fn reached(faults: Faults) -> Vec<Property<Protocol>> {
    let mut reached = vec![Property::sometimes(
        "a retry gets the record",
        |model: &Protocol, s: &State| s.told == model.clients,
    )];
    let mut add = |name, is_possible: bool, is: fn(&Protocol, &State) -> bool| {
        if is_possible {
            reached.push(Property::sometimes(name, is));
        }
    };
    add(
        "a commit is on its way while the layer waits for its lock",
        faults.errors > 0,
        |_, s| {
            any(s, |id, e| {
                e.phase == Phase::AskingByRelease
                    && is_on_the_way(s, id)
                    && s.database.is_claimed_by(id)
            })
        },
    );
    add(
        "a commit is on its way while the layer waits without a claim",
        faults.errors > 0,
        |_, s| {
            any(s, |id, e| {
                e.phase == Phase::AskingByBegin && is_on_the_way(s, id)
            })
        },
    );
    add(
        "the layer finds the record of a commit whose answer was lost",
        faults.errors > 0,
        |_, s| {
            any(s, |_, e| {
                e.phase == Phase::AskingByBegin && e.has_committed && e.is_heard
            })
        },
    );
    add(
        "a commit comes after its client was sent to ask again",
        faults.errors.min(faults.timeouts) > 0,
        |_, s| any(s, |id, e| e.phase == Phase::Behind && is_on_the_way(s, id)) && s.told == 0,
    );
    add(
        "a handler writes a record without a claim",
        faults.refusals > 0,
        |_, s| {
            any(s, |id, e| {
                e.known == Known::Refused
                    && e.phase == Phase::Written
                    && s.database.is_locked_by(id)
            })
        },
    );
    add(
        "a handler that begins anew commits",
        faults.retries > 0,
        |model, s| {
            s.left.retries < model.faults.retries && any(s, |_, e| e.phase == Phase::Committed)
        },
    );
    add(
        "a handler that begins anew waits for its own commit",
        faults.retries > 0,
        |_, s| any(s, |id, e| e.phase == Phase::Open && is_on_the_way(s, id)),
    );
    add(
        "a handler has lost its lease to another",
        faults.stops > 0,
        |_, s| {
            let mut open = s.active().filter(|(_, e)| e.phase == Phase::Open);
            open.clone().count() > 1 && open.any(|(id, _)| s.database.is_claimed_by(id))
        },
    );
    add(
        "a process dies after its commit and before its answer",
        faults.kills > 0,
        |model, s| {
            s.sending == model.clients && s.database.has_record() && s.active().next().is_none()
        },
    );
    add(
        "a crash of the database lets two run",
        faults.crashes > 0,
        |model, s| {
            let crashes = model.faults.crashes - 1;
            let is_alone = s.left
                == Faults {
                    crashes,
                    ..model.faults
                };
            let mut open = s.active().filter(|(_, e)| e.phase == Phase::Open);
            is_alone && open.clone().count() > 1 && open.all(|(_, e)| e.known == Known::Held)
        },
    );
    add(
        "a crash of the database brings a claim back",
        faults.crashes > 0,
        |model, s| {
            s.left.crashes < model.faults.crashes
                && s.active().next().is_none()
                && matches!(s.database.slot, Slot::Claimed { .. })
        },
    );
    reached
}

fn any(state: &State, is: impl Fn(Id, &Execution) -> bool) -> bool {
    state.active().any(|(id, execution)| is(id, execution))
}

fn is_on_the_way(state: &State, id: Id) -> bool {
    let transaction = state.database.locked_by;
    transaction.is_some_and(|transaction| transaction.of == id && transaction.is_sent)
}
