//! The log events of the crate: all there are, and none without the feature `tracing`.
//!
//! They name a record by its hash; a key, a credential or a body never appears.

#![cfg_attr(not(feature = "tracing"), allow(unused_variables))]

use crate::store::{RecordKey, StoreError};

/// A request has a key, and nobody can say whose it is. Logged once a process.
pub(crate) fn no_caller() {
    #[cfg(feature = "tracing")]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            tracing::warn!(
                "a request has an idempotency key, but its caller can't be identified, and so it \
                 goes through unprotected: it has no credential, or one that is made anew for each \
                 request, such as a signature; set IdempotencyLayer::caller (logged once)"
            );
        });
    }
}

/// A step of the store failed.
pub(crate) fn store_failed(step: &'static str, key: &RecordKey, error: &StoreError) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        step,
        record = %key,
        error = error as &(dyn std::error::Error + 'static),
        "the idempotency store failed"
    );
}

/// A lease ended under a handler that is still running.
pub(crate) fn lease_lost(key: &RecordKey) {
    #[cfg(feature = "tracing")]
    tracing::warn!(record = %key, "the lease of an idempotency key was lost");
}

/// A client left, and its request goes on in the background.
pub(crate) fn detached() {
    #[cfg(feature = "tracing")]
    tracing::debug!("the client left; its request goes on in the background");
}

/// What has ended could not be removed from a store.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn cleaning_failed(error: &StoreError) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        error = error as &(dyn std::error::Error + 'static),
        "the idempotency store could not be cleaned"
    );
}
