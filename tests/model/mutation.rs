//! The ways in which the model can be made wrong, each of which the properties must notice.

/// One mistake in a store or in the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// The protocol as it is.
    None,

    /// A store whose `begin` looks first and claims in a second step.
    BeginInTwoSteps,
    /// A store whose `complete` does not ask who holds the key.
    CompleteWithoutFence,
    /// A store that refuses to complete a key that nobody holds.
    LateCompleteLost,
    /// A store whose `renew` does not ask who holds the key.
    RenewWithoutOwner,
    /// A store whose `release` does not ask who holds the key.
    ReleaseWithoutOwner,
    /// A store whose `release` takes whatever is under the key.
    ReleaseDropsRecords,
    /// A store that claims for a ttl.
    TtlAsLease,
    /// A store that keeps records for a lease.
    LeaseAsTtl,

    /// A layer that does not renew.
    NoRenewal,
    /// A layer that stops renewing when the store fails once.
    RenewalGivesUp,
    /// A layer that takes `Lost` for an answer like any other, and says that it kept the response.
    LostTakenAsKept,
    /// A layer that does not settle a claim of which it does not know whether it has it.
    UnknownNotSettled,
    /// A layer that tries `complete` once.
    CompleteNotRetried,
    /// A layer that frees the key when `complete` fails.
    FreedWhenCompleteFails,
    /// A layer that waits for a lease to end where the handler failed or panicked.
    FailureNotReleased,
}
