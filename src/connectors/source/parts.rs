//! What sources are made with.

use std::path::PathBuf;
use std::sync::Arc;

use activekg_storage::time::Clock;
use reqwest::{Client, Url};

use super::rest;
use crate::clouds;
use crate::config::{Config, Secret};
use crate::fetch::Web;
use crate::names::SystemNames;

/// What sources are made with: the limits that the operator sets, and the clients they share. A
/// clone is cheap.
#[derive(Clone)]
pub struct SourceParts(pub(super) Arc<Parts>);

pub(super) struct Parts {
    /// Folders that files may be read from.
    pub(super) folders: Vec<PathBuf>,
    /// Speaks to services that connectors name.
    pub(super) client: Client,
    /// Speaks to the service that gives this machine its credentials.
    pub(super) machine_client: Client,
    /// Reads what is on the public web.
    pub(super) web: Web,
    /// Variables of object stores, by their names in lower case.
    pub(super) clouds: Vec<(String, Secret)>,
    /// Where the tools of this user keep their settings.
    pub(super) home: Option<PathBuf>,
    /// What stands in for Cloud Storage.
    pub(super) storage_emulator: Option<Url>,
    /// What stands in for Drive.
    pub(super) drive_api: Option<Url>,
    /// The time.
    pub(super) clock: Arc<dyn Clock>,
}

impl SourceParts {
    /// What the settings say.
    ///
    /// # Errors
    ///
    /// When no HTTP client can be made.
    pub fn new(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        Ok(Self(Arc::new(Parts {
            folders: config.fetch.folders.clone(),
            client: rest::client(config.connectors.tcp_keepalive)?,
            machine_client: rest::machine_client()?,
            web: Web::new(&config.fetch, SystemNames::default())?,
            clouds: config.backup.clouds.clone(),
            home: config.connectors.home.clone(),
            storage_emulator: config.connectors.storage_emulator.clone(),
            drive_api: config.connectors.drive_api.clone(),
            clock,
        })))
    }
}

impl Parts {
    /// The value of a variable of object stores, by its name in lower case.
    pub(super) fn cloud(&self, name: &str) -> Option<&str> {
        clouds::value(&self.clouds, name).map(|value| value.reveal().trim())
    }
}

#[cfg(test)]
impl SourceParts {
    /// Parts that lead to these folders.
    pub(in crate::connectors) fn of_folders(folders: Vec<PathBuf>) -> Self {
        Self(Arc::new(Parts { folders, ..Parts::of_test() }))
    }
}

#[cfg(test)]
impl Parts {
    /// Parts that lead nowhere but to this machine.
    pub(super) fn of_test() -> Self {
        crate::tls::init();
        let fetch = crate::config::Fetch {
            danger_allow_private_addresses: true,
            ..crate::config::Fetch::default()
        };
        Self {
            folders: Vec::new(),
            client: rest::client(None).expect("a client"),
            machine_client: rest::machine_client().expect("a client"),
            web: Web::new(&fetch, SystemNames::default()).expect("a client"),
            clouds: Vec::new(),
            home: None,
            storage_emulator: None,
            drive_api: None,
            clock: Arc::new(activekg_storage::time::SystemClock),
        }
    }
}
