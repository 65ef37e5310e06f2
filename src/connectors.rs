//! Connectors: sources outside that documents come from.
//!
//! A connector belongs to a tenant, which has at most one of each provider. Its secrets are sealed
//! field by field before they are stored, and opened only in memory: [`Connector`] is an opened one,
//! which shows everything but them.

mod budget;
mod bus;
pub mod change;
mod config_cache;
mod config_store;
mod feed;
mod hearsay;
pub mod keyring;
mod opened;
mod policy;
pub mod poll;
mod process;
mod provider;
mod purge;
pub mod queue;
mod rotate;
mod settings;
pub mod source;
#[cfg(test)]
mod tests;
mod throttle;
pub mod webhook;

use std::sync::Arc;

use activekg_storage::crypt::KeyRing;
use activekg_storage::ids::TenantId;
use activekg_storage::time::Clock;
use activekg_storage::{StorageError, Store};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::observability::metrics::Metrics;

pub use bus::{Operation, SubscriberHealth};
pub use change::{Action, Change, Origin};
pub use config_store::{Listed, Stored};
pub use feed::{Asked, Fed, Feed, FeedError, Objects, Read};
pub use opened::{NoPlace, Places};
pub use policy::{Policy, Refused};
pub use process::{Effect, Failure, Place, Processor, document_name};
pub use provider::{Field, GLOBS_BYTES, IfUnset, Kind, LIST_MAX, Provider, SECRET_MAX, TEXT_MAX};
pub use purge::{PurgeError, PurgeReport, PurgeRequest, Purger};
pub use rotate::Rotated;
pub use settings::{Connector, REDACTED, redact};
pub use source::{Fault, FaultClass, Found, Page, Source, SourceParts};
pub use throttle::{Said, Throttle};
pub use webhook::Webhooks;

use bus::{Bus, Changed};
use config_cache::ConfigCache;

/// The connectors of a store. A clone is cheap.
#[derive(Clone)]
pub struct Connectors(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    keys: Option<Arc<KeyRing>>,
    cache: ConfigCache,
    bus: Bus,
    /// Whether somebody follows the bus.
    subscribes: bool,
    /// One rotation at a time.
    rotating: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    stopping: CancellationToken,
}

/// What connectors need.
pub struct Parts {
    /// The store they are kept in.
    pub store: Arc<Store>,
    /// The keys that seal their secrets; `None` if none is set and none could be made.
    pub keys: Option<Arc<KeyRing>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Cancelled when the process goes down.
    pub stopping: CancellationToken,
}

impl Connectors {
    /// The connectors kept in a store.
    #[must_use]
    pub fn new(parts: Parts, settings: &config::Connectors) -> Self {
        let Parts { store, keys, metrics, clock, stopping } = parts;
        Self(Arc::new(Inner {
            store,
            keys,
            cache: ConfigCache::new(settings.cache_ttl),
            bus: Bus::new(),
            subscribes: settings.cache_subscriber,
            rotating: Arc::new(Semaphore::new(1)),
            metrics,
            clock,
            stopping,
        }))
    }
}

impl Inner {
    fn ring(&self) -> Result<&KeyRing, Error> {
        self.keys.as_deref().ok_or(Error::NoKey)
    }

    /// Begins the series of a connector, so that alerts see their first increase.
    fn show(&self, tenant: &TenantId, provider: Provider) {
        self.metrics.ingest.begin(tenant, provider);
        self.metrics.polling.known(provider, tenant);
        self.metrics.webhooks.listens(provider, tenant);
    }

    /// Lets everybody know of a change that was committed.
    fn changed(&self, tenant: &TenantId, provider: Provider, operation: Operation) {
        self.cache.evict(tenant, provider);
        if operation == Operation::Upsert {
            self.show(tenant, provider);
        }
        let metrics = &self.metrics.connectors;
        metrics.invalidated(operation);
        let told = self.bus.publish(Changed { tenant: tenant.clone(), provider, operation });
        if self.subscribes && !told && !self.stopping.is_cancelled() {
            metrics.not_published();
        }
    }
}

/// Runs `work`, which blocks, off the threads that serve connections.
async fn blocking<T, F>(work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Interrupted)?
}

/// Why something could not be done to a connector.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The tenant has no connector of that provider.
    #[error("Connector not found: {tenant}/{provider}")]
    NotFound {
        /// The tenant.
        tenant: TenantId,
        /// The provider it named.
        provider: String,
    },
    /// No loaded key opens its secrets. The key they were sealed with has to be set again.
    #[error("Config decryption failed: {tenant}/{provider}")]
    NotOpened {
        /// Its owner.
        tenant: TenantId,
        /// Its provider.
        provider: &'static str,
    },
    /// There is no key to seal with.
    #[error("No key to seal connector secrets with: set CONNECTOR_KEK_V1 and start again")]
    NoKey,
    /// Somebody else changed the connector since it was read.
    #[error("The connector was changed meanwhile, please try again")]
    Contended,
    /// A rotation is under way.
    #[error("Key rotation already running")]
    RotationRunning,
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Background work was cut off by the shutdown.
    #[error("interrupted")]
    Interrupted,
}
