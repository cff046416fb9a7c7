//! Histories that once broke a rule, at their shortest.

use crate::action::{Action, Fault, Step, Time};
use crate::history::play;
use crate::script::{Answer, BodyEnd, BodyScript, Ending, Nap, Script, Sizing, UploadKind};

#[test]
fn one_failed_renewal_after_a_hand_over_to_the_body_does_not_lose_the_lease() {
    let body = BodyScript {
        sizing: Sizing::Unknown,
        frames: vec![],
        nap: Nap::None,
        end: BodyEnd::Whole,
    };
    let answer = Answer {
        status: 201,
        do_not_keep: false,
        binary: false,
        body,
    };
    let script = Script {
        reads_upload: false,
        yields: 0,
        nap: Nap::Third,
        ending: Ending::Answer(answer),
    };
    let actions = [
        Action::Fail {
            step: Step::Renew,
            fault: Fault::HangBefore,
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
