//! What all services made by one layer share.

use std::fmt;
use std::sync::Arc;

use crate::background::Detached;
use crate::config::Config;

/// The store, the settings, and the count of detached work.
pub(crate) struct Setup<St> {
    pub(crate) store: Arc<St>,
    pub(crate) config: Config,
    pub(crate) detached: Detached,
}

// By hand, since a derive would ask the store to be `Clone`.
impl<St> Clone for Setup<St> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            config: self.config.clone(),
            detached: self.detached.clone(),
        }
    }
}

impl<St> fmt::Debug for Setup<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("config", &self.config)
            .field("detached", &self.detached)
            .finish_non_exhaustive()
    }
}
