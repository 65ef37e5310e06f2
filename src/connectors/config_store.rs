//! Connectors as they are stored: registered, read, changed, removed.

mod turn;

use std::sync::Arc;

use activekg_storage::crypt::fields::{self, Settings};
use activekg_storage::ids::TenantId;
use activekg_storage::tables::Json;
use activekg_storage::tables::auth::{AuditRecord, audit};
use activekg_storage::tables::connectors::{CONFIGS, ConnectorRecord, put_config};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Scan, StorageError};
use serde_json::{Value, json};
use tracing::{error, info};

use super::keyring::Status;
use super::settings::NotOpened;
use super::{Connector, Connectors, Error, Inner, Operation, Provider, queue};

/// A connector, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its owner.
    pub tenant: TenantId,
    /// Its provider's name.
    pub provider: String,
    /// Whether it runs.
    pub enabled: bool,
    /// The version of the key that its secrets are sealed with.
    pub key_version: u32,
    /// When it was first registered.
    pub created_at: UnixMicros,
    /// When it last changed.
    pub updated_at: UnixMicros,
}

/// A connector that was read in order to be changed.
pub struct Stored {
    /// It, opened.
    pub connector: Connector,
    record: ConnectorRecord,
}

impl Connectors {
    /// Registers a connector in place of the one there may be. `settings` are whole and checked,
    /// with their secrets in the clear.
    ///
    /// # Errors
    ///
    /// [`Error::NoKey`], the store's own.
    pub async fn register(
        &self,
        tenant: &TenantId,
        provider: Provider,
        settings: Settings,
        actor: &str,
    ) -> Result<(), Error> {
        self.put(tenant, provider, settings, None, (actor, "connector.register")).await
    }

    /// Gives a connector other settings, whole and checked, if it is still as it was read.
    ///
    /// # Errors
    ///
    /// [`Error::Contended`] if it is not, [`Error::NoKey`], the store's own.
    pub async fn replace(
        &self,
        tenant: &TenantId,
        provider: Provider,
        before: Stored,
        settings: Settings,
        actor: &str,
    ) -> Result<(), Error> {
        let act = (actor, "connector.update");
        self.put(tenant, provider, settings, Some(before.record), act).await
    }

    async fn put(
        &self,
        tenant: &TenantId,
        provider: Provider,
        mut settings: Settings,
        unchanged: Option<ConnectorRecord>,
        (actor, action): (&str, &str),
    ) -> Result<(), Error> {
        let ring = self.0.ring()?;
        let now = self.0.clock.now();
        let enabled = settings.get("enabled").is_none_or(|enabled| enabled != false);
        let bucket = provider.bucket_field().and_then(|field| settings.get(field)?.as_str());
        let bucket = bucket.map(str::to_owned);
        fields::seal(&mut settings, ring, now);
        let key_version = ring.active();
        let config = Json(Value::Object(settings).to_string());
        let entry = entry(actor, action, tenant, provider, &json!({ "enabled": enabled }));
        let owner = tenant.clone();
        let written = self.0.store.write(move |tx| {
            let there = find(tx, &owner, provider)?;
            if unchanged.is_some() && unchanged != there {
                return Err(Error::Contended);
            }
            let created_at = there.map_or(now, |there| there.created_at);
            let record = ConnectorRecord {
                config,
                enabled,
                bucket,
                key_version,
                created_at,
                updated_at: now,
            };
            put_config(tx, &owner, provider.as_str(), &record)?;
            audit(tx, now, &entry)?;
            Ok(queue::follow(tx, &owner, provider)?)
        });
        let more = written.await?.value;
        self.0.changed(tenant, provider, Operation::Upsert);
        self.follow(tenant, provider, more).await
    }

    /// A connector, enabled or not. Enabled ones are kept open for a while.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::NotOpened`], [`Error::NoKey`], the store's own.
    pub async fn get(&self, tenant: &TenantId, provider: &str) -> Result<Arc<Connector>, Error> {
        let missing = || Error::NotFound { tenant: tenant.clone(), provider: provider.to_owned() };
        let provider = Provider::named(provider).ok_or_else(missing)?;
        let now = self.0.clock.now();
        let metrics = &self.0.metrics.connectors;
        let epoch = match self.0.cache.find(tenant, provider, now) {
            Ok(found) => {
                metrics.cache_hit(provider);
                return Ok(found);
            }
            Err(epoch) => epoch,
        };
        metrics.cache_missed(provider);
        let Stored { connector, .. } = self.stored(tenant, provider).await?;
        let connector = Arc::new(connector);
        if connector.enabled {
            self.0.cache.keep(tenant, provider, connector.clone(), (now, epoch));
        }
        Ok(connector)
    }

    /// A connector as it is in the store.
    ///
    /// # Errors
    ///
    /// As [`Connectors::get`].
    pub async fn stored(&self, tenant: &TenantId, provider: Provider) -> Result<Stored, Error> {
        let (inner, owner) = (self.0.clone(), tenant.clone());
        super::blocking(move || {
            let record = find(&inner.store.read()?, &owner, provider)?;
            let missing = || Error::NotFound {
                tenant: owner.clone(),
                provider: provider.as_str().to_owned(),
            };
            let record = record.ok_or_else(missing)?;
            let connector = inner.open(&owner, provider, &record)?;
            Ok(Stored { connector, record })
        })
        .await
    }

    /// The connectors of a tenant, or of all, in order of tenant and provider.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn list(&self, tenant: Option<TenantId>) -> Result<Vec<Listed>, Error> {
        let inner = self.0.clone();
        super::blocking(move || {
            let scan = tenant.map_or_else(Scan::all, |tenant| Scan::prefix(&(tenant,)));
            let tx = inner.store.read()?;
            let rows = tx.scan(&CONFIGS, scan)?;
            let listed = rows.map(|row| row.map(|(key, record)| listed(key, record)));
            Ok(listed.collect::<Result<_, StorageError>>()?)
        })
        .await
    }

    /// Opens every enabled connector beforehand, so that the first use of one does not wait. Those
    /// that do not open are logged and counted.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn warm_up(&self) -> Result<(), Error> {
        let inner = self.0.clone();
        super::blocking(move || {
            let state = (inner.clock.now(), inner.cache.epoch());
            let mut n_open = 0;
            for row in inner.store.read()?.scan(&CONFIGS, Scan::all())? {
                let ((tenant, provider), record) = match row {
                    Ok(row) => row,
                    Err(damaged @ StorageError::Corrupt { .. }) => {
                        error!("a connector cannot be read: {damaged}");
                        continue;
                    }
                    Err(failed) => return Err(failed.into()),
                };
                let Some(provider) = Provider::named(&provider) else { continue };
                inner.show(&tenant, provider);
                if !record.enabled {
                    continue;
                }
                if let Ok(connector) = inner.open(&tenant, provider, &record) {
                    inner.cache.keep(&tenant, provider, Arc::new(connector), state);
                    n_open += 1;
                }
            }
            info!("Connector config cache warmup: {n_open} configs preloaded");
            Ok(())
        })
        .await
    }

    /// Forgets every connector that is open; how many they were.
    #[must_use]
    pub fn flush(&self) -> usize {
        self.0.cache.flush()
    }

    /// Which keys are loaded, and how many connectors, of a tenant or of all, are sealed with which.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn key_status(&self, tenant: Option<TenantId>) -> Result<Status, Error> {
        let inner = self.0.clone();
        let gather =
            move || Ok(Status::gather(&inner.store, inner.keys.as_deref(), &*inner.clock, tenant)?);
        super::blocking(gather).await
    }
}

impl Inner {
    /// Opens a record. A secret that no key opens is logged and counted.
    fn open(
        &self,
        tenant: &TenantId,
        provider: Provider,
        record: &ConnectorRecord,
    ) -> Result<Connector, Error> {
        Connector::open(record, self.ring()?).map_err(|reason| {
            let (name, key_version) = (provider.as_str(), record.key_version);
            error!(
                tenant_id = %tenant, provider = name, key_version,
                "connector config of {tenant}/{name} cannot be opened: {reason}"
            );
            if let NotOpened::Field(field) = reason {
                self.metrics.connectors.not_opened(provider, field.field);
            }
            Error::NotOpened { tenant: tenant.clone(), provider: name }
        })
    }
}

fn find(
    tx: &impl Readable,
    tenant: &TenantId,
    provider: Provider,
) -> Result<Option<ConnectorRecord>, StorageError> {
    tx.get(&CONFIGS, &(tenant.clone(), provider.as_str().to_owned()))
}

fn listed((tenant, provider): (TenantId, String), record: ConnectorRecord) -> Listed {
    let ConnectorRecord { config: _, enabled, bucket: _, key_version, created_at, updated_at } =
        record;
    Listed { tenant, provider, enabled, key_version, created_at, updated_at }
}

fn entry(
    actor: &str,
    action: &str,
    tenant: &TenantId,
    provider: Provider,
    details: &Value,
) -> AuditRecord {
    AuditRecord {
        tenant: Some(tenant.clone()),
        actor: actor.to_owned(),
        action: action.to_owned(),
        object: format!("connector {}", provider.as_str()),
        details: Json(details.to_string()),
    }
}
