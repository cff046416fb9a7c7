//! The coarse time by which keys are looked at.

use std::time::Duration;

/// A coarse point in time: a count of seconds from the start of the store.
pub(super) type Tick = u32;

pub(super) fn after(now: u64, duration: Duration) -> u64 {
    now.saturating_add(nanos(duration))
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns the first tick at which this point in time has passed.
pub(super) fn tick_at(deadline: u64) -> Tick {
    Tick::try_from(deadline.div_ceil(nanos(TICK))).unwrap_or(Tick::MAX)
}

/// Returns the last tick that has passed at this point in time.
pub(super) fn now_tick(now: u64) -> Tick {
    Tick::try_from(now / nanos(TICK)).unwrap_or(Tick::MAX)
}

/// The width of a bucket: how long after its end a key may still take room.
pub(super) const TICK: Duration = Duration::from_secs(1);
