//! The table of the memory store and its accounts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::{Begin, Claim, Owner, Ownership, Record, StoreError, StoreErrorKind};
use super::expiry::{CHUNK, Expiry};
use super::slot::{Slot, State};
use super::sweeper::{self, Sweeping};
use super::tick::{TICK, Tick, after, nanos, now_tick, tick_at};
use crate::store::RecordKey;

/// What the clones of a store share.
#[derive(Debug)]
pub(super) struct Shared {
    slots: DashMap<RecordKey, Slot>,
    expiry: Mutex<Expiry>,
    bytes: AtomicUsize,
    max_bytes: AtomicUsize,
    start: Instant,
}

impl Shared {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            slots: DashMap::with_shard_amount(SHARDS),
            expiry: Mutex::default(),
            bytes: AtomicUsize::new(0),
            max_bytes: AtomicUsize::new(max_bytes),
            start: Instant::now(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn set_max_bytes(&self, max_bytes: usize) {
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }

    fn max_bytes(&self) -> usize {
        self.max_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn begin(
        self: &Arc<Self>,
        key: &RecordKey,
        claim: &Claim,
        lease: Duration,
    ) -> Result<Begin, StoreError> {
        let mut may_sweep = true;
        let (now, tick) = loop {
            let entry = self.slots.entry(*key);
            // Here and below, the clock is read once the key is locked. A thread that read it and
            // then waited for the lock would judge by an old time, and could set back an end that
            // another thread has prolonged meanwhile.
            let now = self.now();
            let deadline = after(now, lease);
            let tick = tick_at(deadline);
            let fresh = || Slot {
                state: State::InProgress(Box::new(*claim)),
                deadline,
                tick,
            };
            match entry {
                Entry::Occupied(slot) if slot.get().is_live(now) => return Ok(slot.get().found()),
                Entry::Occupied(mut slot) => {
                    self.replace(slot.get_mut(), fresh());
                    break (now, tick);
                }
                Entry::Vacant(vacant) => {
                    if self.bytes() < self.max_bytes() {
                        let slot = fresh();
                        self.bytes.fetch_add(slot.size(), Ordering::Relaxed);
                        vacant.insert(slot);
                        break (now, tick);
                    }
                }
            }
            // No entry is held here, so the sweep may take any.
            if !(std::mem::take(&mut may_sweep) && self.sweep_some()) {
                return Err(StoreErrorKind::Full.into());
            }
        };
        self.watch(now, tick, *key);
        Ok(Begin::Started)
    }

    pub(super) fn complete(
        self: &Arc<Self>,
        key: &RecordKey,
        owner: Owner,
        record: &Record,
        ttl: Duration,
    ) -> Result<Ownership, StoreError> {
        let entry = self.slots.entry(*key);
        let now = self.now();
        let deadline = after(now, ttl);
        let tick = match &entry {
            Entry::Occupied(slot) if !slot.get().may_be_completed_by(owner, now) => {
                return Ok(Ownership::Lost);
            }
            Entry::Occupied(slot) => slot.get().tick,
            Entry::Vacant(_) => tick_at(deadline),
        };
        let completed = Slot {
            state: State::completed(record),
            deadline,
            tick,
        };
        // Claims are refused at the limit; a handler that has run may be completed a little beyond.
        let max_bytes = self.max_bytes();
        let limit = max_bytes.saturating_add(max_bytes / 20);
        if self.bytes().saturating_add(completed.size()) > limit {
            return Err(StoreErrorKind::Full.into());
        }
        match entry {
            Entry::Occupied(slot) => {
                let mut slot = slot.into_ref();
                self.replace(&mut slot, completed);
                self.hasten(key, slot);
            }
            Entry::Vacant(vacant) => {
                self.bytes.fetch_add(completed.size(), Ordering::Relaxed);
                drop(vacant.insert(completed));
                self.watch(now, tick, *key);
            }
        }
        Ok(Ownership::Held)
    }

    pub(super) fn renew(&self, key: &RecordKey, owner: Owner, lease: Duration) -> Ownership {
        let Some(mut slot) = self.slots.get_mut(key) else {
            return Ownership::Lost;
        };
        let now = self.now();
        if !slot.is_held_by(owner, now) {
            return Ownership::Lost;
        }
        slot.deadline = after(now, lease);
        self.hasten(key, slot);
        Ownership::Held
    }

    pub(super) fn release(&self, key: &RecordKey, owner: Owner) -> Ownership {
        let is_held = |_: &RecordKey, slot: &Slot| slot.is_held_by(owner, self.now());
        match self.slots.remove_if(key, is_held) {
            Some((_, slot)) => {
                self.bytes.fetch_sub(slot.size(), Ordering::Relaxed);
                Ownership::Held
            }
            None => Ownership::Lost,
        }
    }

    /// Looks at a chunk of the keys that are due, and returns how many those were.
    pub(super) fn sweep(&self) -> usize {
        let now = self.now();
        let due = self.expiry().pop_due(now_tick(now));
        let Some((tick, keys)) = due else {
            return 0;
        };
        let count = keys.len();
        self.bytes.fetch_sub(count * ENTRY, Ordering::Relaxed);
        for key in keys {
            let Entry::Occupied(mut slot) = self.slots.entry(key) else {
                continue;
            };
            if slot.get().tick != tick {
                continue;
            }
            if slot.get().is_live(now) {
                // Completed or renewed since: looked at again when that ends.
                let tick = tick_at(slot.get().deadline);
                slot.get_mut().tick = tick;
                self.enqueue(&mut self.expiry(), tick, key);
            } else {
                let slot = slot.remove();
                self.bytes.fetch_sub(slot.size(), Ordering::Relaxed);
            }
        }
        count
    }

    /// Does what a claim does for others, and reports whether there was anything to do.
    ///
    /// A claim adds a key that is looked at twice or more, and a chunk may hold a single key:
    /// claims that took a chunk each would not keep up.
    fn sweep_some(&self) -> bool {
        let mut swept = 0;
        while swept < CHUNK {
            match self.sweep() {
                0 => break,
                count => swept += count,
            }
        }
        swept > 0
    }

    /// Gives the table's room back when most of it is empty: a table does not shrink by itself.
    pub(super) fn shrink(&self) {
        // By a factor, so that it happens rarely however many keys come and go.
        if self.slots.capacity() > SPARSE * self.slots.len() + SMALL_TABLE {
            self.slots.shrink_to_fit();
        }
    }

    /// Returns when the next key is due, or `None` if the task is not needed any more: either no
    /// key is left, and the next claim starts another task, or that has happened already.
    pub(super) fn next_sweep(&self, task: &Arc<Notify>) -> Option<Instant> {
        let mut expiry = self.expiry();
        if !expiry.sweeping.is(task) {
            return None;
        }
        let next = expiry.next();
        if next.is_none() {
            expiry.sweeping = Sweeping::Nobody;
        }
        next.map(|next| self.start + TICK * next)
    }

    /// Hands sweeping over, unless another has taken the task's place already.
    pub(super) fn leave_sweeping(&self, task: &Arc<Notify>, to: Sweeping) {
        let mut expiry = self.expiry();
        if expiry.sweeping.is(task) {
            expiry.sweeping = to;
        }
    }

    fn expiry(&self) -> MutexGuard<'_, Expiry> {
        // Nothing that holds this lock can leave the buckets half-changed.
        self.expiry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a key into the order of expiry, and makes sure that somebody looks at it when it is
    /// due.
    fn watch(self: &Arc<Self>, now: u64, tick: Tick, key: RecordKey) {
        let now = now_tick(now);
        let mut expiry = self.expiry();
        self.enqueue(&mut expiry, tick, key);
        let next = expiry.next();
        let is_neglected = next.is_some_and(|next| sweeper::is_long_before(next, now));
        let missing = expiry.sweeping.missing(self, now, is_neglected);
        drop(expiry);
        if let Some((runtime, task)) = missing {
            runtime.spawn(task.run());
        }
        if is_neglected {
            self.sweep_some();
        }
    }

    /// Moves a key forward in the order of expiry if it now ends earlier than its bucket says.
    fn hasten(&self, key: &RecordKey, mut slot: dashmap::mapref::one::RefMut<'_, RecordKey, Slot>) {
        let tick = tick_at(slot.deadline);
        if tick >= slot.tick {
            return;
        }
        slot.tick = tick;
        self.enqueue(&mut self.expiry(), tick, *key);
    }

    /// Adds a key to the order of expiry. It takes room there until its tick, even if the key is
    /// released earlier.
    fn enqueue(&self, expiry: &mut Expiry, tick: Tick, key: RecordKey) {
        self.bytes.fetch_add(ENTRY, Ordering::Relaxed);
        if expiry.push(tick, key) {
            expiry.sweeping.wake();
        }
    }

    fn replace(&self, slot: &mut Slot, with: Slot) {
        self.bytes.fetch_add(with.size(), Ordering::Relaxed);
        let old = std::mem::replace(slot, with);
        self.bytes.fetch_sub(old.size(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        nanos(self.start.elapsed())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.expiry().sweeping.wake();
    }
}

/// A table is shrunk if it has room for more than this many times its keys.
const SPARSE: usize = 8;

/// A table with room for no more keys than this is not shrunk.
const SMALL_TABLE: usize = 64 * SHARDS;

/// The room of a key in the order of expiry.
const ENTRY: usize = size_of::<RecordKey>();

/// Many small shards: one that grows moves few slots, and few writers wait for it.
const SHARDS: usize = 256;

#[cfg(test)]
mod tests;
