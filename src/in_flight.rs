//! What happens to a request whose first one is still running.

use std::time::Duration;

/// What becomes of a request whose key belongs to one that is still running: see
/// [`IdempotencyLayer::in_flight`](crate::IdempotencyLayer::in_flight).
///
/// # Waiting
///
/// With [`Wait`](Self::Wait), a duplicate gets the first request's answer as soon as that is kept, as a
/// replay, and 409 with `Retry-After` if there is none in time. Choose a time below the timeouts of
/// clients and proxies.
///
/// - **A client may ask for less** with `Prefer: wait=N` (RFC 7240, section 4.3), in seconds. Whatever
///   answers after the wait then has `Preference-Applied: wait=N`, with the number of seconds that
///   counted.
/// - **If the first request comes to nothing** (a response that is not kept, an error, a panic), exactly
///   one waiter runs its handler, and the others wait for that one.
/// - **Waiters are woken at once** where the first request runs in the same process, behind this layer or
///   a clone of it. For the sake of other processes, one waiter of each key and process asks the store
///   again, after pauses that grow from 20 milliseconds to a second; each is shortened by up to half, at
///   random. Besides, each waiter asks once when its wait begins, and once when it is woken.
/// - **At most 100 requests wait for a key**, and 10,000 all in all, in each process. The next one gets 409
///   at once.
/// - A waiter holds no connection of the store. It keeps its own connection and request, with the upload
///   still unread, and gives back what the inner service has reserved to be ready (such as a permit of a
///   concurrency limit) until its handler runs.
/// - Another method or target is refused with 422, which no wait delays.
/// - A waiter whose client leaves is gone, and [`Detached`](crate::Detached) does not wait for it. A
///   server that shuts down gracefully does, as for any request.
/// - [`store_timeout`](crate::IdempotencyLayer::store_timeout) bounds each asking of the store, and not the
///   wait.
///
/// **If the store fails meanwhile**, a waiter waits on and its handler does not run, not even with
/// [`StoreFailure::Open`](crate::StoreFailure::Open): the first one's may still be running. With
/// [`StoreFailure::Closed`](crate::StoreFailure::Closed), a waiter that finds the store failing is refused
/// with 503.
///
/// Without a timer (see [Runtime](crate::IdempotencyLayer#runtime)) nobody waits: it is 409 at once.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::{InFlight, IdempotencyLayer, MemoryStore};
///
/// let layer = IdempotencyLayer::new(MemoryStore::new())
///     .in_flight(InFlight::Wait(Duration::from_secs(10)));
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InFlight {
    /// It is refused with 409 and `Retry-After`, at once.
    #[default]
    Refuse,
    /// It waits for the first one's answer, for at most this time.
    Wait(Duration),
}
