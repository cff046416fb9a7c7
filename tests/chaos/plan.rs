//! What an operation is, which its client and its handler both know by its number.

use std::time::Duration;

use support::Random;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) upload: usize,
    /// How many runs fail before they have an effect, and how.
    pub(crate) failures: usize,
    pub(crate) failure: Failure,
    pub(crate) before_effect: Duration,
    pub(crate) after_effect: Duration,
    /// Before the last frame of a body whose size nobody says.
    pub(crate) before_end: Duration,
    pub(crate) body: Body,
    /// Whether two clients do it at once.
    pub(crate) twins: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Panic,
    BrokenBody,
    /// As a broken body, but one of known size.
    BrokenExactBody,
    Unavailable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Exact(usize),
    /// So many frames, whose size nobody says.
    Frames(usize),
}

impl Plan {
    pub(crate) fn new(seed: u64, operation: u64) -> Self {
        let mut random = Random::new(seed, operation);
        let long = random.is_one_in(40);
        let pause = |random: &mut Random| match random.within(0..4) {
            0 if long => LEASE * 3 / 2,
            0 => Duration::from_millis(random.within(1..120)),
            _ => Duration::ZERO,
        };
        Self {
            upload: match random.within(0..4) {
                0 => random.within(1..300_000) as usize,
                _ => random.within(0..500) as usize,
            },
            failures: random.within(0..6).saturating_sub(3) as usize,
            failure: match random.within(0..4) {
                0 => Failure::Panic,
                1 => Failure::BrokenBody,
                2 => Failure::BrokenExactBody,
                _ => Failure::Unavailable,
            },
            before_effect: pause(&mut random),
            after_effect: pause(&mut random),
            before_end: match long && random.is_one_in(2) {
                true => LEASE * 3 / 2,
                false => pause(&mut random),
            },
            body: match random.within(0..8) {
                0 => Body::Exact(MAX_RESPONSE_BYTES + 1),
                1 => Body::Exact(MAX_RESPONSE_BYTES),
                2 => Body::Frames(MAX_RESPONSE_BYTES / FRAME + 1),
                3 | 4 => Body::Frames(random.within(0..6) as usize),
                _ => Body::Exact(random.within(0..2_000) as usize),
            },
            twins: random.is_one_in(4),
        }
    }
}

impl Plan {
    /// Returns whether a replay may come without its body: because that is too long, or because a
    /// client left before it ended, and nobody waits for its end for more than a lease.
    pub(crate) fn may_be_omitted(&self) -> bool {
        let is_cut = matches!(self.body, Body::Frames(_)) && self.before_end > LEASE;
        self.body.is_too_long() || is_cut
    }
}

impl Body {
    /// Writes the answer: the entry of the ledger, and then as much as was asked for.
    pub(crate) fn write(self, operation: u64, entry: usize) -> Vec<u8> {
        let length = match self {
            Self::Exact(length) => length,
            Self::Frames(frames) => frames * FRAME,
        };
        let text = format!("operation {operation} is entry {entry}\n");
        text.into_bytes().into_iter().cycle().take(length).collect()
    }

    fn is_too_long(self) -> bool {
        match self {
            Self::Exact(length) => length > MAX_RESPONSE_BYTES,
            Self::Frames(frames) => frames * FRAME > MAX_RESPONSE_BYTES,
        }
    }
}

pub(crate) const FRAME: usize = 4_096;
pub(crate) const MAX_RESPONSE_BYTES: usize = 64 * 1024;
pub(crate) const LEASE: Duration = Duration::from_secs(2);
pub(crate) const TTL: Duration = Duration::from_secs(6);
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_millis(100);
