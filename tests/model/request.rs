//! One request with the key, and what the layer knows of its claim.

/// One request with the key, from its arrival to the last that the layer does for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) process: usize,
    pub(crate) phase: Phase,
    /// `guard::State`, as far as the phase does not say it.
    pub(crate) known: Known,
    /// Ticks to the next renewal, or the next try to settle. `None`: no more renewals.
    pub(crate) due: Option<u8>,
    /// For the properties: how often since its last success a renewal was kept from happening.
    pub(crate) hindered: u8,
    /// For the properties: why it may be that another run does not respect this one.
    pub(crate) excuse: Option<Excuse>,
    /// For the properties: its handler gave a response to keep, and less than a ttl has passed.
    pub(crate) ran: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Not yet sent by its client.
    Unsent,
    /// Only with `Mutation::BeginInTwoSteps`: has seen that the key is absent.
    Looked,
    /// `begin` is answered or has failed, and the handler is about to be called.
    Begun,
    /// The handler or its response body runs.
    Running,
    /// The handler is over, and the claim is about to be settled.
    Over(Ending),
    /// `Lease::settle_later`: tries to settle since so many ticks.
    Settling {
        ending: Ending,
        since: u8,
        renews_first: bool,
    },
    Done(Outcome),
}

/// `lease::Ending`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ending {
    Complete,
    Release,
}

/// `guard::State`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Known {
    Held,
    Refused,
    Unknown,
}

/// What came of a request: known until time passes, so that it is no state of its own for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Kept,
    Replayed,
    InProgress,
    /// Settled after the response was out.
    KeptInBackground,
    /// Its record has lived for its ttl.
    RecordEnded,
    /// Anything else, of which no property asks.
    Other,
}

/// What a run may blame when another one does not respect it. The model grants an excuse only for
/// what it did itself, so that a protocol which is to blame has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Excuse {
    /// The store failed at `begin` and had no claim of it when the handler was called.
    FailedOpen,
    /// The lease ended although it was renewed in time wherever that was possible.
    LeaseLost,
    /// The process died between the handler's end and the record.
    Crashed,
}

impl Request {
    pub(crate) const UNSENT: Self = Self {
        process: 0,
        phase: Phase::Unsent,
        known: Known::Unknown,
        due: None,
        hindered: 0,
        excuse: None,
        ran: false,
    };

    /// Returns whether the layer is not done with it.
    pub(crate) fn is_active(&self) -> bool {
        !matches!(self.phase, Phase::Unsent | Phase::Done(_))
    }

    /// Returns whether it has a step to take that does not wait for time or the handler.
    pub(crate) fn has_step(&self) -> bool {
        match self.phase {
            Phase::Unsent | Phase::Done(_) => false,
            Phase::Looked | Phase::Begun | Phase::Over(_) => true,
            Phase::Running | Phase::Settling { .. } => self.due == Some(0),
        }
    }

    pub(crate) fn finish(&mut self, outcome: Outcome) {
        // What is not asked for any more is forgotten, so that states with the same future are one.
        *self = Self {
            phase: Phase::Done(outcome),
            excuse: self.excuse,
            ran: self.ran,
            ..Self::UNSENT
        };
    }
}

/// A lease lasts for three ticks and can be renewed at two of them: it is lost if both are missed.
pub(crate) const HINDERED: u8 = 2;
