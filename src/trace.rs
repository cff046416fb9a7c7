//! The log events of the crate: all there are, and none without the feature `tracing`.
//!
//! They name a record by its hash; a key, a credential or a body never appears.

#![cfg_attr(not(feature = "tracing"), allow(unused_variables))]

use std::future::Future;
use std::time::Duration;

use crate::store::{RecordKey, StoreError};

/// The target of all events.
#[cfg(feature = "tracing")]
const TARGET: &str = "tower_idempotency";

/// A request has a key, and its caller can't be identified. Logged once a process.
pub(crate) fn no_caller() {
    #[cfg(feature = "tracing")]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            tracing::warn!(target: TARGET,
                "a request has an idempotency key, but its caller can't be identified, and so it \
                 is not protected: it has no credential, or one that is made anew for each \
                 request, such as a signature; set IdempotencyLayer::caller (logged once)"
            );
        });
    }
}

/// A server did not know a prepared statement, or knew it as another. Logged once a process.
#[cfg(feature = "postgres")]
pub(crate) fn statements_mixed_up(error: &sqlx::Error) {
    #[cfg(feature = "tracing")]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            tracing::error!(target: TARGET,
                error = error as &(dyn std::error::Error + 'static),
                "prepared statements are mixed up between the idempotency store and PostgreSQL: if \
                 a pooler is on the way, see PostgresStore for its settings; the statement did \
                 nothing (logged once)"
            );
        });
    }
}

/// A step of the store failed, and the one before had not.
pub(crate) fn outage_began(step: &'static str, key: &RecordKey, error: &StoreError) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: TARGET,
        step,
        record = %key,
        error = error as &(dyn std::error::Error + 'static),
        "the idempotency store fails; requests run unprotected until it works again"
    );
}

/// A step of the store failed in an outage that has been reported.
pub(crate) fn store_failed_again(step: &'static str, key: &RecordKey, error: &StoreError) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: TARGET,
        step,
        record = %key,
        error = error as &(dyn std::error::Error + 'static),
        "the idempotency store failed again"
    );
}

/// A step of the store succeeded after so many that had failed.
pub(crate) fn outage_ended(failures: u64) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: TARGET, failures, "the idempotency store works again");
}

/// A store that was full has taken a claim, after it had refused so many steps.
pub(crate) fn store_has_room(failures: u64) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: TARGET, failures, "the idempotency store has room again");
}

/// What is under a key can't be read.
pub(crate) fn record_corrupt(step: &'static str, key: &RecordKey, error: &StoreError) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: TARGET,
        step,
        record = %key,
        error = error as &(dyn std::error::Error + 'static),
        "a record in the idempotency store can't be read"
    );
}

/// The store panicked, which is taken for its failure.
pub(crate) fn store_panicked() {
    #[cfg(feature = "tracing")]
    tracing::error!(target: TARGET, "the idempotency store panicked");
}

/// The rule of `keep_if` panicked.
pub(crate) fn rule_panicked(key: &RecordKey) {
    #[cfg(feature = "tracing")]
    tracing::error!(target: TARGET,
        record = %key,
        "the rule of keep_if panicked; the response goes out, and its key stays claimed for a lease"
    );
}

/// A handler kept a response in its transaction, and never committed it.
pub(crate) fn never_committed(key: &RecordKey) {
    #[cfg(feature = "tracing")]
    tracing::error!(target: TARGET,
        record = %key,
        "a handler returned a response that it has kept in a transaction, but did not commit that; \
         the client has the response, and its key is free: a retry runs"
    );
}

/// A handler failed, and its transaction was committed all the same.
pub(crate) fn committed_after_all(key: &RecordKey) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: TARGET,
        record = %key,
        "a handler returned another response than the one that is kept; the client gets the kept one"
    );
}

/// The rule does not keep a success that a handler wants to keep in its transaction. Logged once a
/// process.
pub(crate) fn success_not_kept(key: &RecordKey) {
    #[cfg(feature = "tracing")]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            tracing::warn!(target: TARGET,
                record = %key,
                "a handler calls in_transaction with a success that is not kept, by its status or its \
                 format: if it commits, a retry runs again; answer with JSON or the like, or set \
                 IdempotencyLayer::keep_if (logged once)"
            );
        });
    }
}

/// A handler kept a response twice.
pub(crate) fn kept_twice(key: &RecordKey) {
    #[cfg(feature = "tracing")]
    tracing::error!(target: TARGET,
        record = %key,
        "a handler called in_transaction again, and its first call was in the same transaction, or \
         in one that was committed"
    );
}

/// A lease ended under a handler that is still running.
pub(crate) fn lease_lost(key: &RecordKey) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: TARGET, record = %key, "the lease of an idempotency key was lost");
}

/// A client left, and its request goes on in the background.
pub(crate) fn detached() {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: TARGET, "the client left; its request goes on in the background");
}

/// A client left, and its request ends here.
pub(crate) fn too_many_detached(max: usize) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: TARGET,
        max,
        "the client left and its request is dropped: too many go on in the background already"
    );
}

/// A request that went on without its client is dropped.
pub(crate) fn detached_for_too_long(max: Duration) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: TARGET,
        ?max,
        "a request that went on in the background took too long, and is dropped"
    );
}

/// A write to the store is not tried again.
pub(crate) fn too_many_writes(max: usize) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: TARGET,
        max,
        "a write to the idempotency store is given up: too many are tried again already"
    );
}

/// What has ended could not be removed from a store.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn cleaning_failed(error: &StoreError) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: TARGET,
        error = error as &(dyn std::error::Error + 'static),
        "the idempotency store could not be cleaned"
    );
}

/// The settings of a server could not be checked.
#[cfg(feature = "redis")]
pub(crate) fn settings_unknown(error: &StoreError) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: TARGET,
        error = error as &(dyn std::error::Error + 'static),
        "the settings of the idempotency store's server can't be read (INFO): check by hand that \
         its maxmemory-policy is noeviction"
    );
}

/// The span that a request is in, taken along where its work goes on in a task of its own.
#[derive(Debug)]
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

impl Span {
    /// Returns the span that is entered now.
    pub(crate) fn current() -> Self {
        Self {
            #[cfg(feature = "tracing")]
            span: tracing::Span::current(),
        }
    }

    /// Runs work in the span.
    pub(crate) fn around<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        #[cfg(feature = "tracing")]
        let work = tracing::Instrument::instrument(work, self.span);
        work
    }
}
