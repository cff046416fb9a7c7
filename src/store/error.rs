//! What can go wrong in a store.

use std::error::Error;
use std::fmt;

/// An error of a [`Store`](super::Store): its kind, and the cause as [`source`](Error::source).
///
/// # Examples
///
/// ```
/// use tower_idempotency::StoreError;
/// use tower_idempotency::store::StoreErrorKind;
///
/// let cause = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
/// let error = StoreError::new(StoreErrorKind::Unavailable, cause);
/// assert!(error.is_transient());
/// assert_eq!(error.to_string(), "the idempotency store is unavailable");
/// ```
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// Creates an error of this kind with its cause.
    pub fn new(kind: StoreErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind,
            source: Some(source.into()),
        }
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Returns whether the same call may succeed later, which is so unless the data is corrupt.
    pub fn is_transient(&self) -> bool {
        self.kind != StoreErrorKind::Corrupt
    }
}

impl From<StoreErrorKind> for StoreError {
    fn from(kind: StoreErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the idempotency store {}", self.kind)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// The kind of a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store can't be reached or refuses to work. The step may have been taken.
    Unavailable,
    /// The store did not answer in time. The step may have been taken.
    Timeout,
    /// The store has no room for another claim or record. The step was not taken.
    Full,
    /// What is in the store can't be read. The step was not taken.
    Corrupt,
}

impl StoreErrorKind {
    /// Returns whether the step may have been taken although it failed.
    pub(crate) fn may_have_been_taken(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout)
    }
}

impl fmt::Display for StoreErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "is unavailable",
            Self::Timeout => "did not answer in time",
            Self::Full => "is full",
            Self::Corrupt => "holds something that can't be read",
        })
    }
}
