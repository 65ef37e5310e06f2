//! Sources that are open: one for each connector, until its settings change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use activekg_storage::ids::TenantId;
use activekg_storage::time::UnixMicros;
use serde_json::Value;

use super::process::Place;
use super::throttle::Throttle;
use super::{Connectors, Error, Fault, Provider, Source, SourceParts};

/// Most sources that are kept open.
const OPEN_MAX: usize = 1024;

/// The sources of connectors. A clone is cheap.
#[derive(Clone)]
pub struct Places(Arc<Inner>);

struct Inner {
    connectors: Connectors,
    parts: SourceParts,
    throttle: Throttle,
    open: Mutex<HashMap<(TenantId, Provider), Opened>>,
}

/// A source, and which version of the connector's settings it is of.
struct Opened {
    version: UnixMicros,
    place: Place,
}

/// Why there is no source to ask.
#[derive(Debug, thiserror::Error)]
pub enum NoPlace {
    /// The tenant has no connector of the provider, or it is off.
    #[error("{} connector not registered for tenant", .0)]
    NotRegistered(String),
    /// Its secrets do not open, or the store failed.
    #[error(transparent)]
    Connector(Error),
    /// Its settings make no source.
    #[error("{0}")]
    Settings(Fault),
}

impl Places {
    /// The sources of `connectors`, which are asked at the pace that `throttle` allows.
    #[must_use]
    pub fn new(connectors: Connectors, parts: SourceParts, throttle: Throttle) -> Self {
        Self(Arc::new(Inner { connectors, parts, throttle, open: Mutex::default() }))
    }

    /// What keeps from asking too much.
    #[must_use]
    pub fn throttle(&self) -> &Throttle {
        &self.0.throttle
    }

    /// The source of a tenant's connector, which runs.
    ///
    /// # Errors
    ///
    /// [`NoPlace`] says why there is none.
    pub async fn of(&self, tenant: &TenantId, provider: &str) -> Result<Place, NoPlace> {
        let none = || NoPlace::NotRegistered(provider.to_owned());
        let kind = Provider::named(provider).ok_or_else(none)?;
        let connector = match self.0.connectors.get(tenant, provider).await {
            Ok(connector) if connector.enabled => connector,
            Ok(_) | Err(Error::NotFound { .. }) => {
                self.forget(tenant, kind);
                return Err(none());
            }
            Err(other) => return Err(NoPlace::Connector(other)),
        };
        let key = (tenant.clone(), kind);
        let version = connector.updated_at;
        let known = |open: &HashMap<_, Opened>| {
            let found = open.get(&key).filter(|opened| opened.version == version);
            found.map(|opened| opened.place.clone())
        };
        if let Some(place) = known(&self.lock()) {
            return Ok(place);
        }
        let source = Source::open(kind, &connector, &self.0.parts).map_err(NoPlace::Settings)?;
        let max_bytes = connector.shown().get("max_file_size_bytes").and_then(Value::as_u64);
        let prefix = connector.shown().get("prefix").and_then(Value::as_str);
        let prefix = prefix.unwrap_or_default().to_owned();
        let place = Place { tenant: tenant.clone(), provider: kind, source, prefix, max_bytes };
        let mut open = self.lock();
        if open.len() >= OPEN_MAX {
            // What is needed is opened again; nothing is asked for that.
            open.clear();
        }
        let before = open.insert(key.clone(), Opened { version, place: place.clone() });
        drop(open);
        if before.is_some() {
            // Other settings may be better ones.
            self.0.throttle.forget(&key);
        }
        Ok(place)
    }

    fn forget(&self, tenant: &TenantId, provider: Provider) {
        let key = (tenant.clone(), provider);
        self.lock().remove(&key);
        self.0.throttle.forget(&key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(TenantId, Provider), Opened>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
