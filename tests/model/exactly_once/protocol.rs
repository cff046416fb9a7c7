//! What may happen in each state, and what must always hold.

use stateright::{Model, Property};

use super::handler::{Do, Handler};
use super::layer::Layer;
use super::reached::reached;
use super::state::{Faults, Phase, State};
use crate::layer::Call;
use crate::mutation::Mutation;
use crate::store::{Id, Slot, Step};

/// A protocol, right or wrong, and how much of it is explored: some clients with one key, each of
/// which sends its request until it is told of a success.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol {
    pub(crate) clients: u8,
    pub(crate) faults: Faults,
    pub(crate) mutation: Mutation,
}

/// One step. An execution has the name that it has in the state before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A client sends the request. A 409 changes nothing, and so is left out.
    Send(Call),
    Handler(Id, Do),
    Layer(Id, Call),
    /// The server takes the commit that is on its way.
    Commit,
    /// The server refuses the commit, or rolls back what nobody handles any more.
    Rollback,
    /// A call that was given up reaches the database.
    Arrive(Id, Step),
    /// A call that was given up never arrives.
    Vanish(Id, Step),
    /// A lease ends.
    Expire,
    /// Whoever waits for an answer leaves, and sends the request again.
    Leave(Id),
    Kill(Id),
    /// The database's server crashes and is back, with this under the key.
    Crash(Slot),
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.clients, self.faults)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.sending > 0
            && let Some(id) = state.unused()
        {
            let is_claimed = matches!(state.database.slot, Slot::Claimed { .. });
            let calls = self.calls(state, id, Step::Begin);
            let calls = calls.filter(|call| !(is_claimed && *call == Call::Answered));
            actions.extend(calls.map(Action::Send));
        }
        for (id, execution) in state.active() {
            let choices = Handler::choices(state, id, self.mutation);
            actions.extend(choices.into_iter().map(|next| Action::Handler(id, next)));
            if let Some(step) = Layer::next_call(execution.phase) {
                let calls = self.calls(state, id, step);
                actions.extend(calls.map(|call| Action::Layer(id, call)));
            }
            if execution.is_heard && state.left.leaves > 0 {
                actions.push(Action::Leave(id));
            }
            if state.left.kills > 0 {
                actions.push(Action::Kill(id));
            }
        }
        self.database_actions(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let state = &mut next;
        let mutation = self.mutation;
        match action {
            Action::Send(call) => {
                let id = state.unused()?;
                let mut layer = Layer {
                    state,
                    mutation,
                    id,
                };
                layer.begin(call);
            }
            Action::Handler(id, choice) => {
                let mut handler = Handler {
                    state,
                    mutation,
                    id,
                };
                handler.step(choice);
            }
            Action::Layer(id, call) => Layer {
                state,
                mutation,
                id,
            }
            .step(call),
            Action::Commit => {
                let transaction = state.database.locked_by?;
                state.database.commit(transaction);
                if state.active().any(|(id, _)| id == transaction.of) {
                    state.execution(transaction.of).has_committed = true;
                }
            }
            Action::Rollback => {
                let transaction = state.database.locked_by.take()?;
                if state.is_handled(transaction.of) {
                    state.left.errors -= 1;
                }
            }
            Action::Arrive(id, step) => {
                remove_late(state, id, step)?;
                state.database.apply(id, step, mutation);
            }
            Action::Vanish(id, step) => remove_late(state, id, step)?,
            Action::Expire => {
                if state.is_renewed() {
                    state.left.stops -= 1;
                }
                state.database.slot = Slot::Absent;
            }
            Action::Leave(id) => {
                state.left.leaves -= 1;
                state.tell_nothing(id);
            }
            Action::Kill(id) => {
                state.left.kills -= 1;
                state.finish(id);
            }
            Action::Crash(slot) => {
                state.left.crashes -= 1;
                state.crash(slot);
            }
        }
        next.normalize();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(ONE, |_, state: &State| state.database.effects <= 1),
            Property::always(TOGETHER, |_, state: &State| {
                (state.database.effects > 0) == state.database.has_record()
            }),
            Property::always(TOLD, |_, state: &State| {
                state.told == 0 || state.database.effects == 1
            }),
            Property::always(DENIED, |_, state: &State| !state.database.wrong.denied),
            Property::always(OVERTAKEN, |_, state: &State| {
                !state.database.wrong.overtaken
            }),
            Property::always(END, |model: &Self, state: &State| {
                let is_well = state.told == model.clients && state.database.effects == 1;
                let mut actions = Vec::new();
                is_well || {
                    model.actions(state, &mut actions);
                    !actions.is_empty()
                }
            }),
        ];
        if self.mutation == Mutation::None {
            // The model would be right without a step in it: these say that it gets somewhere.
            properties.extend(reached(self.faults));
        }
        properties
    }
}

impl Protocol {
    /// How a call of the layer may go. It is not answered while it waits for a lock.
    fn calls(&self, state: &State, id: Id, step: Step) -> impl Iterator<Item = Call> + use<> {
        let reads = self.mutation == Mutation::TruthIsRead
            && state.executions[usize::from(id)].phase == Phase::AskingByRelease;
        let may_be_answered = reads || !state.database.makes_wait(id, step);
        let may_be_refused = step == Step::Begin
            && state.executions[usize::from(id)].phase == Phase::Unused
            && state.left.refusals > 0;
        [
            may_be_answered.then_some(Call::Answered),
            (state.left.timeouts > 0).then_some(Call::TimedOut),
            may_be_refused.then_some(Call::Full),
        ]
        .into_iter()
        .flatten()
    }

    fn database_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let database = &state.database;
        if let Some(transaction) = database.locked_by {
            if transaction.is_sent {
                actions.push(Action::Commit);
            }
            let may_be_rolled_back = if state.is_handled(transaction.of) {
                transaction.is_sent && state.left.errors > 0
            } else {
                transaction.is_sent || self.mutation != Mutation::LockNeverEnds
            };
            if may_be_rolled_back {
                actions.push(Action::Rollback);
            }
        }
        for (id, step) in &database.late {
            if !database.makes_wait(*id, *step) {
                actions.push(Action::Arrive(*id, *step));
            }
            actions.push(Action::Vanish(*id, *step));
        }
        if let Slot::Claimed { .. } = database.slot
            && self.mutation != Mutation::ClaimsNeverEnd
            && (!state.is_renewed() || state.left.stops > 0)
        {
            actions.push(Action::Expire);
        }
        if state.left.crashes > 0 {
            let slots = state.after_crash(self.mutation);
            actions.extend(slots.into_iter().map(Action::Crash));
        }
    }
}

fn remove_late(state: &mut State, id: Id, step: Step) -> Option<()> {
    let late = &mut state.database.late;
    let place = late.iter().position(|late| *late == (id, step))?;
    late.remove(place);
    Some(())
}

pub(crate) const ONE: &str = "at most one effect is committed";
pub(crate) const TOGETHER: &str = "an effect is committed if a record is, and only then";
pub(crate) const TOLD: &str = "a client that is told of success has one effect";
pub(crate) const DENIED: &str = "a failure goes out only where nothing is or will be committed";
pub(crate) const OVERTAKEN: &str = "nobody commits over the live claim of another";
pub(crate) const END: &str = "at the end there is one effect, and all clients were told of it";
