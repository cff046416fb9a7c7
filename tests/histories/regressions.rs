//! Histories that once broke a rule, at their shortest.

use support::{Call, Fault};

use crate::action::{Action, Time};
use crate::history::play;
use crate::script::{Nap, Script, Sizing, UploadKind};

#[test]
fn one_failed_renewal_after_a_hand_over_to_the_body_does_not_lose_the_lease() {
    let script = Script::answering(Nap::Third, 201, Sizing::Unknown, vec![]);
    let actions = [
        Action::Fail {
            call: Call::Renew,
            fault: Fault::Hang,
            times: 1,
        },
        Action::Start {
            key: 0,
            target: 0,
            upload: UploadKind::Empty,
            script,
        },
        Action::Wait(Time::Lease),
    ];
    assert_eq!(play(&actions).err(), None);
}
