//! The order in which keys end, kept in coarse buckets of time, so that nothing is scanned.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::sweeper::Sweeping;
use super::tick::Tick;
use crate::store::RecordKey;

/// The keys of a store, by the tick at which each is looked at.
///
/// Adding a key costs O(log buckets), whatever the number of keys; taking one costs O(1).
#[derive(Debug, Default)]
pub(super) struct Expiry {
    buckets: BTreeMap<Tick, Bucket>,
    pub(super) sweeping: Sweeping,
}

impl Expiry {
    /// Adds a key, and returns whether it is now the first to become due.
    pub(super) fn push(&mut self, tick: Tick, key: RecordKey) -> bool {
        match self.buckets.entry(tick) {
            Entry::Occupied(mut bucket) => {
                bucket.get_mut().push(key);
                false
            }
            Entry::Vacant(vacant) => {
                vacant.insert(Bucket::default()).push(key);
                self.next() == Some(tick)
            }
        }
    }

    /// Returns the tick at which the next key becomes due.
    pub(super) fn next(&self) -> Option<Tick> {
        self.buckets.keys().next().copied()
    }

    /// Takes out some keys that are due by now, and returns them with their tick.
    pub(super) fn pop_due(&mut self, now: Tick) -> Option<(Tick, Vec<RecordKey>)> {
        let mut bucket = self.buckets.first_entry()?;
        let tick = *bucket.key();
        if tick > now {
            return None;
        }
        let chunk = bucket.get_mut().chunks.pop();
        if bucket.get().chunks.is_empty() {
            bucket.remove();
        }
        chunk.map(|chunk| (tick, chunk))
    }
}

/// Keys in chunks, so that adding one never moves many.
#[derive(Debug, Default)]
struct Bucket {
    chunks: Vec<Vec<RecordKey>>,
}

impl Bucket {
    fn push(&mut self, key: RecordKey) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < chunk.capacity() => chunk.push(key),
            last => {
                let capacity = last.map_or(1, |chunk| (chunk.capacity() * 2).min(CHUNK));
                let mut chunk = Vec::with_capacity(capacity);
                chunk.push(key);
                self.chunks.push(chunk);
            }
        }
    }
}

/// The greatest number of keys in a chunk: what a sweep does between two pauses.
pub(super) const CHUNK: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u16) -> RecordKey {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        RecordKey::from_bytes(bytes)
    }

    #[test]
    fn every_key_comes_out_once_when_it_is_due_and_not_before() {
        let mut expiry = Expiry::default();
        for n in 0..1000 {
            expiry.push(Tick::from(n % 7), key(n));
        }
        let mut seen = std::collections::BTreeMap::new();
        for now in 0..7 {
            while let Some((tick, keys)) = expiry.pop_due(now) {
                assert!(tick <= now && keys.len() <= CHUNK);
                for key in keys {
                    assert_eq!(seen.insert(key, tick), None);
                }
            }
        }
        assert_eq!(seen.len(), 1000);
        assert!((0..1000).all(|n| seen[&key(n)] == Tick::from(n % 7)));
        assert_eq!(expiry.next(), None);
    }

    #[test]
    fn push_reports_when_a_key_is_the_first_to_become_due() {
        let mut expiry = Expiry::default();
        assert!(expiry.push(5, key(0)));
        assert!(!expiry.push(5, key(1)));
        assert!(!expiry.push(9, key(2)));
        assert!(expiry.push(1, key(3)));
    }
}
