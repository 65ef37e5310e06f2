//! What sources are made with.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Config;

/// What sources are made with: the limits that the operator sets, and the clients they share. A
/// clone is cheap.
#[derive(Clone)]
pub struct SourceParts(pub(super) Arc<Parts>);

pub(super) struct Parts {
    /// Folders that files may be read from.
    pub(super) folders: Vec<PathBuf>,
}

impl SourceParts {
    /// What the settings say.
    ///
    /// # Errors
    ///
    /// When no HTTP client can be made.
    pub fn new(config: &Config) -> Result<Self, reqwest::Error> {
        Ok(Self(Arc::new(Parts { folders: config.fetch.folders.clone() })))
    }

    #[cfg(test)]
    pub(super) fn of_folders(folders: Vec<PathBuf>) -> Self {
        Self(Arc::new(Parts { folders }))
    }
}
