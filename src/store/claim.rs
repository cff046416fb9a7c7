//! What the layer and a store say to each other about a claim.

use std::cell::Cell;
use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

use super::{Fingerprint, Record};

/// What a store writes down when the layer claims a key with [`Store::begin`].
///
/// [`Store::begin`]: super::Store::begin
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    owner: Owner,
    fingerprint: Fingerprint,
    is_durable: bool,
}

impl Claim {
    /// Creates the durable claim of this owner, for a request with this fingerprint.
    pub fn new(owner: Owner, fingerprint: Fingerprint) -> Self {
        Self {
            owner,
            fingerprint,
            is_durable: true,
        }
    }

    /// Sets whether the claim is [durable](Self::is_durable). Default: `true`.
    #[must_use]
    pub fn durable(mut self, is_durable: bool) -> Self {
        self.is_durable = is_durable;
        self
    }

    /// Returns the owner.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Returns the fingerprint of the request that claims.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns whether the claim is to be as durable as a record.
    ///
    /// It need not be where the record is kept in the handler's own transaction
    /// ([`IdempotencyLayer::transactional`]): of two handlers that run at once because a crash has
    /// lost a claim, only one can commit. A store may then answer before the claim is on the disk.
    ///
    /// [`IdempotencyLayer::transactional`]: crate::IdempotencyLayer::transactional
    pub fn is_durable(&self) -> bool {
        self.is_durable
    }
}

/// The token that distinguishes one claim of a key from every other: the fence of its lease.
///
/// The layer makes one for each claim; a store keeps it, and compares it in each later step.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner([u8; 16]);

impl Owner {
    /// Creates an owner that no other process or call has.
    ///
    /// The token is a UUID of version 8 (RFC 9562): 60 random bits drawn once a process, and a
    /// counter. It need not be hard to guess, since it never leaves the store, and so it does not
    /// pay for a random number from the system on every request.
    #[allow(
        clippy::new_without_default,
        reason = "two owners are never equal, so none is a default"
    )]
    pub fn new() -> Self {
        static PROCESS: LazyLock<u64> = LazyLock::new(|| Uuid::new_v4().as_u64_pair().0);
        static BLOCKS: AtomicU64 = AtomicU64::new(0);
        thread_local! {
            static NEXT: Cell<u64> = const { Cell::new(0) };
        }

        // Each thread takes a block of numbers, since threads would wait for one another at a
        // common counter.
        let count = match NEXT.get() {
            next if next % BLOCK == 0 => BLOCKS.fetch_add(BLOCK, Ordering::Relaxed),
            next => next,
        };
        NEXT.set(count + 1);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&PROCESS.to_be_bytes());
        bytes[8..].copy_from_slice(&count.to_be_bytes());
        Self(Uuid::new_v8(bytes).into_bytes())
    }

    /// Creates an owner from bytes that [`Owner::as_bytes`] gave.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the token's bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({})", Uuid::from_bytes(self.0))
    }
}

/// What a store found when it was asked to claim a key: the answer of [`Store::begin`].
///
/// [`Store::begin`]: super::Store::begin
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Begin {
    /// Nothing was there, and the key is now claimed.
    Started,
    /// Somebody else holds the key; this is the fingerprint of their request.
    InProgress(Fingerprint),
    /// The key has a record.
    Completed(Record),
}

/// Whether the key was the caller's to `complete`, `renew` or `release`, so that the step was
/// taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Ownership {
    /// The step was taken: the caller held the key, or completed one that nobody held.
    Held,
    /// Nothing was changed. For `complete`, the key is another owner's or has a record; for `renew`
    /// and `release`, it is not in progress under the caller, whose lease may have ended.
    Lost,
}

/// How many numbers a thread takes at once.
const BLOCK: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_of_one_process_differ_and_are_uuids_of_version_8() {
        let threads = (0..4).map(|_| {
            std::thread::spawn(|| (0..3 * BLOCK).map(|_| Owner::new()).collect::<Vec<_>>())
        });
        let threads: Vec<_> = threads.collect();
        let owners = threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        let owners: Vec<_> = owners.flatten().collect();
        let distinct: std::collections::HashSet<_> = owners.iter().collect();
        assert_eq!(distinct.len(), owners.len());
        assert_eq!(Uuid::from_bytes(owners[0].0).get_version_num(), 8);
    }
}
