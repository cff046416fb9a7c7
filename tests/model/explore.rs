//! How a model is explored: to the end, or until its properties fail.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

/// Explores a protocol that is right, to the end.
#[track_caller]
pub(crate) fn assert_holds<M>(model: M)
where
    M: Model<Action: Clone + Debug + PartialEq> + Debug + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
{
    let start = Instant::now();
    let name = format!("{model:?}");
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!(
        "{name}: all {} states, {} steps, at most {} from the start, in {:.1?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        start.elapsed()
    );
    assert!(checker.is_done());
    checker.assert_properties();
}

/// Explores a wrong protocol until these properties fail.
#[track_caller]
pub(crate) fn assert_breaks<M>(model: M, properties: &[&'static str])
where
    M: Model<Action: Clone + Debug + PartialEq> + Debug + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
{
    let name = format!("{model:?}");
    let all = HasDiscoveries::AllOf(properties.iter().copied().collect());
    let found = model.checker().finish_when(all).spawn_bfs().join();
    let found = found.discoveries();
    for property in properties {
        let history = found.get(property).cloned();
        let history = history.unwrap_or_else(|| panic!("{name} keeps {property:?}"));
        println!(
            "{name} breaks {property:?}:\n  {:?}",
            history.into_actions()
        );
    }
}

/// Fails if a history can come back to where it was: without that, every history ends, however
/// its steps are mixed.
#[track_caller]
pub(crate) fn assert_every_history_ends<M>(model: &M)
where
    M: Model<Action: Debug>,
    M::State: Clone + Debug + Eq + Hash,
{
    let mut is_on_the_way = HashMap::new();
    let mut way = Vec::new();
    let enter = |way: &mut Vec<_>, state: M::State| {
        let steps = model.next_steps(&state);
        way.push((state, steps));
    };
    for state in model.init_states() {
        is_on_the_way.insert(state.clone(), true);
        enter(&mut way, state);
    }
    while let Some((state, steps)) = way.last_mut() {
        let Some((action, after)) = steps.pop() else {
            is_on_the_way.insert(state.clone(), false);
            way.pop();
            continue;
        };
        match is_on_the_way.get(&after) {
            Some(true) => panic!("{action:?} leads back from {state:?} to {after:?}"),
            Some(false) => {}
            None => {
                is_on_the_way.insert(after.clone(), true);
                enter(&mut way, after);
            }
        }
    }
}
