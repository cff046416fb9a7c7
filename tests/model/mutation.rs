//! The mistakes that the model can make, each of which the properties must notice.

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
}
