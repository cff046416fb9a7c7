//! The mistakes that the models can make, each of which the properties must notice.

/// One mistake in a store, in the layer, or in a handler with a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// The protocol as it is.
    None,

    /// A store whose `begin` looks first and claims in a second step.
    BeginInTwoSteps,
    /// A store whose `complete` does not ask who holds the key.
    CompleteWithoutFence,
    /// A store whose `complete` takes the key from another's claim.
    CompleteWithoutOwner,
    /// A store that refuses to complete a key that nobody holds.
    LateCompleteLost,
    /// A store whose `renew` does not ask who holds the key.
    RenewWithoutOwner,
    /// A store whose `release` does not ask who holds the key.
    ReleaseWithoutOwner,
    /// A store whose `release` removes whatever is under the key.
    ReleaseDropsRecords,
    /// A store that claims for a ttl.
    TtlAsLease,
    /// A store that keeps records for a lease.
    LeaseAsTtl,

    /// A layer that does not renew.
    NoRenewal,
    /// A layer that stops renewing when the store fails once.
    RenewalGivesUp,
    /// A layer that ignores `Lost`, and reports that it kept the response.
    LostTakenAsKept,
    /// A layer that does not settle a claim that it may or may not have.
    UnknownNotSettled,
    /// A layer that tries `complete` once.
    CompleteNotRetried,
    /// A layer that frees the key when `complete` fails.
    FreedWhenCompleteFails,
    /// A layer that waits for a lease to end where the handler failed or panicked.
    FailureNotReleased,

    /// A store whose `complete_in` takes no lock.
    NoLock,
    /// A store whose `complete_in` commits the record by itself.
    RecordApart,
    /// A store whose claims do not end.
    ClaimsNeverEnd,
    /// A database that does not notice that the process of a transaction is gone.
    LockNeverEnds,
    /// A database that may lose in a crash what it has committed.
    CommitNotDurable,

    /// A handler that commits its effect, and leaves the record to the layer.
    CommitBeforeRecord,
    /// A handler that writes the record in its first transaction only, and not where it begins anew.
    RecordWrittenOnce,
    /// A handler that commits although `in_transaction` has failed.
    LostIgnored,
    /// A handler that returns the marked response without a commit.
    NeverCommitted,

    /// A layer that takes a failure after `in_transaction` for one before it.
    TruthNotAsked,
    /// A layer that asks what is true only where it knows that it has a claim.
    TruthAskedIfHeld,
    /// A layer that forgets, when a handler begins anew, that a record was written before.
    LastCallCounts,
    /// A layer that takes an `in_transaction` without an answer for one that has not been called.
    OnlySuccessCounts,
    /// A layer that reads what is there, and does not wait for the lock.
    TruthIsRead,
    /// A layer that asks by `begin` alone, which answers at once while its own claim is there.
    TruthAskedByBegin,
    /// A layer that takes a claim that is gone for a transaction that was rolled back.
    LostTakenAsRolledBack,
    /// A layer that takes a claim that is gone for a transaction that was committed.
    LostTakenAsCommitted,
    /// A layer that takes another's claim for a transaction that was committed.
    InProgressTakenAsCommitted,
    /// A layer that lets the failure out when the store can't say what is true.
    UnknownTakenAsRolledBack,
    /// A layer that keeps the marked response itself when the handler reports a failure.
    RecordAfterRollback,
}
