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

impl<St> fmt::Debug for Setup<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("config", &self.config)
            .field("detached", &self.detached)
            .finish_non_exhaustive()
    }
}
