//! Turning connectors on and off, and deleting them.

use activekg_storage::crypt::fields::Settings;
use activekg_storage::ids::TenantId;
use activekg_storage::tables::Json;
use activekg_storage::tables::auth::audit;
use activekg_storage::tables::connectors::{
    ConnectorRecord, forget_polled, put_config, remove_config,
};
use activekg_storage::time::UnixMicros;
use serde_json::{Value, json};

use super::{entry, find};
use crate::connectors::settings::NotOpened;
use crate::connectors::{Connectors, Error, Operation, Provider, queue};

/// Objects that a connector forgets in one transaction.
const FORGOTTEN_STEP: usize = 5000;

impl Connectors {
    /// From here on the connector runs.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], the store's own.
    pub async fn enable(
        &self,
        tenant: &TenantId,
        provider: &str,
        actor: &str,
    ) -> Result<(), Error> {
        self.switch(tenant, provider, Operation::Enable, actor).await
    }

    /// From here on the connector does not run.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], the store's own.
    pub async fn disable(
        &self,
        tenant: &TenantId,
        provider: &str,
        actor: &str,
    ) -> Result<(), Error> {
        self.switch(tenant, provider, Operation::Disable, actor).await
    }

    async fn switch(
        &self,
        tenant: &TenantId,
        provider: &str,
        operation: Operation,
        actor: &str,
    ) -> Result<(), Error> {
        let missing = Error::NotFound { tenant: tenant.clone(), provider: provider.to_owned() };
        let Some(provider) = Provider::named(provider) else { return Err(missing) };
        let enabled = operation == Operation::Enable;
        let action = format!("connector.{}", operation.as_str());
        let entry = entry(actor, &action, tenant, provider, &json!({}));
        let (now, owner) = (self.0.clock.now(), tenant.clone());
        let written = self.0.store.write(move |tx| {
            let Some(mut record) = find(tx, &owner, provider)? else { return Err(missing) };
            turn(&mut record, enabled, now).map_err(|_| Error::NotOpened {
                tenant: owner.clone(),
                provider: provider.as_str(),
            })?;
            put_config(tx, &owner, provider.as_str(), &record)?;
            audit(tx, now, &entry)?;
            Ok(queue::follow(tx, &owner, provider)?)
        });
        let more = written.await?.value;
        self.0.changed(tenant, provider, operation);
        self.follow(tenant, provider, more).await
    }

    /// Moves what is left of a tenant's items to where they belong now, in steps of their own: a
    /// worker that meets one of them meanwhile does the same.
    pub(super) async fn follow(
        &self,
        tenant: &TenantId,
        provider: Provider,
        mut more: bool,
    ) -> Result<(), Error> {
        while more {
            let owner = tenant.clone();
            let moved = self.0.store.make_room(move |tx| queue::follow(tx, &owner, provider));
            more = moved.await?.value;
        }
        Ok(())
    }

    /// Removes a connector with its cursors. Its documents stay. A full disk does not stop it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], the store's own.
    pub async fn delete(
        &self,
        tenant: &TenantId,
        provider: &str,
        actor: &str,
    ) -> Result<(), Error> {
        let missing = Error::NotFound { tenant: tenant.clone(), provider: provider.to_owned() };
        let Some(provider) = Provider::named(provider) else { return Err(missing) };
        let entry = entry(actor, "connector.delete", tenant, provider, &json!({}));
        while self.forget_some(tenant, provider).await? {}
        let (now, owner) = (self.0.clock.now(), tenant.clone());
        let removed = self.0.store.make_room(move |tx| {
            if !remove_config(tx, &owner, provider.as_str())? {
                return Err(missing);
            }
            audit(tx, now, &entry)?;
            Ok(queue::follow(tx, &owner, provider)?)
        });
        let more = removed.await?.value;
        self.0.changed(tenant, provider, Operation::Delete);
        self.follow(tenant, provider, more).await
    }

    /// Removes part of what polling knows of a connector that is to be deleted, and turns it off so
    /// that it learns nothing anew; whether there may be more. Cut off in between, it is a connector
    /// that is off and finds again what it has forgotten.
    async fn forget_some(&self, tenant: &TenantId, provider: Provider) -> Result<bool, Error> {
        let (now, owner) = (self.0.clock.now(), tenant.clone());
        let forgotten = self.0.store.make_room(move |tx| {
            let Some(mut record) = find(tx, &owner, provider)? else { return Ok(false) };
            let more = forget_polled(tx, &owner, provider.as_str(), FORGOTTEN_STEP)?;
            // One whose settings cannot be read runs nowhere.
            if more && record.enabled && turn(&mut record, false, now).is_ok() {
                put_config(tx, &owner, provider.as_str(), &record)?;
            }
            Ok::<_, Error>(more)
        });
        Ok(forgotten.await?.value)
    }
}

/// Turns a connector on or off.
fn turn(record: &mut ConnectorRecord, enabled: bool, now: UnixMicros) -> Result<(), NotOpened> {
    let parsed = serde_json::from_str::<Settings>(record.config.as_str());
    let mut settings = parsed.map_err(|_| NotOpened::NotSettings)?;
    settings.insert("enabled".to_owned(), enabled.into());
    record.config = Json(Value::Object(settings).to_string());
    record.enabled = enabled;
    record.updated_at = now;
    Ok(())
}
