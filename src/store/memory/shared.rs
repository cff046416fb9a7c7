//! The table of the memory store and its accounts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::{Begin, Claim, Owner, Ownership, Record, StoreError, StoreErrorKind};
use super::expiry::{Expiry, Tick};
use super::slot::{Slot, State};
use super::sweeper;
use crate::store::RecordKey;

/// What the clones of a store share.
#[derive(Debug)]
pub(super) struct Shared {
    slots: DashMap<RecordKey, Slot>,
    expiry: Mutex<Expiry>,
    bytes: AtomicUsize,
    max_bytes: AtomicUsize,
    start: Instant,
    /// Wakes the sweeper when a key becomes due before all others, or the store is gone.
    pub(super) wake: Arc<Notify>,
}

impl Shared {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            slots: DashMap::with_shard_amount(SHARDS),
            expiry: Mutex::default(),
            bytes: AtomicUsize::new(0),
            max_bytes: AtomicUsize::new(max_bytes),
            start: Instant::now(),
            wake: Arc::default(),
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
        let tick = loop {
            let entry = self.slots.entry(*key);
            // Here and below the clock is read when the key is locked: a thread that read it and
            // then waited for the lock would judge by the past, and set an end back that another
            // has prolonged meanwhile.
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
                    break tick;
                }
                Entry::Vacant(vacant) => {
                    if self.bytes() < self.max_bytes() {
                        let slot = fresh();
                        self.bytes.fetch_add(slot.size(), Ordering::Relaxed);
                        vacant.insert(slot);
                        break tick;
                    }
                }
            }
            // No entry is held here, so the sweep may take any. One chunk is all that a claim does
            // for others: the sweeper does the rest.
            if !(std::mem::take(&mut may_sweep) && self.sweep()) {
                return Err(StoreErrorKind::Full.into());
            }
        };
        self.watch(tick, *key);
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
        // Claims are refused at the limit; whoever has run may complete a little beyond.
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
                self.watch(tick, *key);
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

    /// Looks at a chunk of the keys that are due, and tells whether there were any.
    pub(super) fn sweep(&self) -> bool {
        let now = self.now();
        let due = self.expiry().pop_due(now_tick(now));
        let Some((tick, keys)) = due else {
            return false;
        };
        self.bytes.fetch_sub(keys.len() * ENTRY, Ordering::Relaxed);
        for key in keys {
            let Entry::Occupied(mut slot) = self.slots.entry(key) else {
                continue;
            };
            if slot.get().tick != tick {
                continue;
            }
            if slot.get().is_live(now) {
                // Completed or renewed since: to be looked at again when that ends.
                let tick = tick_at(slot.get().deadline);
                slot.get_mut().tick = tick;
                self.enqueue(&mut self.expiry(), tick, key);
            } else {
                let slot = slot.remove();
                self.bytes.fetch_sub(slot.size(), Ordering::Relaxed);
            }
        }
        true
    }

    /// Gives the table's room back when most of it is empty: a table does not shrink by itself.
    pub(super) fn shrink(&self) {
        // By a factor, so that it happens rarely however many keys come and go.
        if self.slots.capacity() > SPARSE * self.slots.len() + SMALL_TABLE {
            self.slots.shrink_to_fit();
        }
    }

    /// Returns when the next key is due; `None` says that nothing is left, and that the next claim
    /// starts another sweeper.
    pub(super) fn next_sweep(&self) -> Option<Instant> {
        let mut expiry = self.expiry();
        let next = expiry.next();
        expiry.swept = next.is_some();
        next.map(|next| self.start + TICK * next)
    }

    pub(super) fn expiry(&self) -> MutexGuard<'_, Expiry> {
        // Nothing that holds this lock can leave the buckets half-changed.
        self.expiry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a key into the order of expiry, and sees to it that somebody looks there.
    fn watch(self: &Arc<Self>, tick: Tick, key: RecordKey) {
        let mut expiry = self.expiry();
        let first = self.enqueue(&mut expiry, tick, key);
        let start = !std::mem::replace(&mut expiry.swept, true);
        drop(expiry);
        if start {
            sweeper::start(self);
        } else if first {
            self.wake.notify_one();
        }
    }

    /// Moves a key forward in the order of expiry if it now ends before the bucket it is in.
    fn hasten(&self, key: &RecordKey, mut slot: dashmap::mapref::one::RefMut<'_, RecordKey, Slot>) {
        let tick = tick_at(slot.deadline);
        if tick >= slot.tick {
            return;
        }
        slot.tick = tick;
        if self.enqueue(&mut self.expiry(), tick, *key) {
            self.wake.notify_one();
        }
    }

    /// Adds a key to the order of expiry, where it takes room until its tick, also when it is given
    /// up before, and tells whether it is now the first that becomes due.
    fn enqueue(&self, expiry: &mut Expiry, tick: Tick, key: RecordKey) -> bool {
        self.bytes.fetch_add(ENTRY, Ordering::Relaxed);
        expiry.push(tick, key)
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
        self.wake.notify_one();
    }
}

fn after(now: u64, duration: Duration) -> u64 {
    now.saturating_add(nanos(duration))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The first tick at which this point in time has passed.
fn tick_at(deadline: u64) -> Tick {
    Tick::try_from(deadline.div_ceil(nanos(TICK))).unwrap_or(Tick::MAX)
}

/// The last tick that has passed at this point in time.
fn now_tick(now: u64) -> Tick {
    Tick::try_from(now / nanos(TICK)).unwrap_or(Tick::MAX)
}

/// How many times as much room as keys a table must have to be shrunk.
const SPARSE: usize = 8;

/// A table of this room is left as it is.
const SMALL_TABLE: usize = 64 * SHARDS;

/// The room of a key in the order of expiry.
const ENTRY: usize = size_of::<RecordKey>();

/// The width of a bucket: how long after its end a key may still take room.
const TICK: Duration = Duration::from_secs(1);

/// Many small shards, so that one that grows moves few slots and holds few others up.
const SHARDS: usize = 256;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::super::Fingerprint;
    use super::*;

    fn claim() -> Claim {
        Claim::new(Owner::new(), Fingerprint::from_bytes([7; 32]))
    }

    #[test]
    fn a_lease_that_ends_while_a_step_waits_for_the_lock_is_over() {
        type Step = fn(&Arc<Shared>, &RecordKey, &Claim) -> bool;
        let steps: [(&str, Step); 4] = [
            ("begin", |shared, key, _| {
                matches!(shared.begin(key, &claim(), LEASE), Ok(Begin::Started))
            }),
            ("complete by another", |shared, key, held| {
                let record = Record::new(held.fingerprint(), http::StatusCode::OK, [], None);
                let completed = shared.complete(key, claim().owner(), &record, LEASE);
                matches!(completed, Ok(Ownership::Held))
            }),
            ("renew", |shared, key, held| {
                shared.renew(key, held.owner(), LEASE) == Ownership::Lost
            }),
            ("release", |shared, key, held| {
                shared.release(key, held.owner()) == Ownership::Lost
            }),
        ];
        for (name, step) in steps {
            let (key, claim) = (RecordKey::from_bytes([1; 32]), claim());
            // Claimed outside the runtime, so that there is no sweeper to wait for the lock, too.
            let shared = Arc::new(Shared::new(1 << 20));
            assert!(matches!(
                shared.begin(&key, &claim, LEASE),
                Ok(Begin::Started)
            ));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .expect("a runtime");
            let locked = shared.slots.get_mut(&key);
            let waiting = {
                let (shared, runtime) = (Arc::clone(&shared), runtime.handle().clone());
                thread::spawn(move || {
                    let _context = runtime.enter();
                    step(&shared, &key, &claim)
                })
            };
            // Until the step waits, most likely; one that begins later is right in any case.
            thread::sleep(Duration::from_millis(20));
            runtime.block_on(tokio::time::advance(LEASE * 2));
            drop(locked);
            assert!(waiting.join().expect("no panic"), "{name} went by the past");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_keys_that_are_given_up_is_bounded_and_leaves_nothing() {
        let shared = Arc::new(Shared::new(64 * 1024));
        let mut refused = 0;
        for n in 0..10_000u16 {
            let (mut bytes, claim) = ([0; 32], claim());
            bytes[..2].copy_from_slice(&n.to_be_bytes());
            let key = RecordKey::from_bytes(bytes);
            match shared.begin(&key, &claim, LEASE) {
                Ok(_) => assert_eq!(shared.release(&key, claim.owner()), Ownership::Held),
                Err(_) => refused += 1,
            }
            assert!(shared.bytes() <= 66 * 1024);
        }
        assert!(refused > 7_000, "{refused} refused");
        tokio::time::sleep(LEASE + TICK * 2).await;
        assert_eq!(shared.bytes(), 0);
    }

    const LEASE: Duration = Duration::from_secs(60);
}
