//! Rotation: sealing stored connectors again with the active key, in one call.

use std::ops::ControlFlow;
use std::time::Instant;

use activekg_storage::crypt::rotate::{ConnectorKey, Report, Rotation, Selection};
use activekg_storage::ids::EventId;
use activekg_storage::tables::Json;
use activekg_storage::tables::auth::{AuditRecord, audit_as};
use activekg_storage::time::UnixMicros;
use activekg_storage::{StorageError, Store};
use serde_json::json;
use tracing::{error, info};

use super::{Connectors, Error, Inner, Operation, Provider};

/// What a rotation has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rotated {
    /// Connectors sealed again.
    pub rotated: u64,
    /// Connectors changed or removed meanwhile, and left alone.
    pub skipped: u64,
    /// Connectors that could not be opened and are as they were, and one for what ended it early.
    pub errors: u64,
    /// The first thousand of the connectors that could not be opened.
    pub failed: Vec<ConnectorKey>,
    /// What ended it early. It can be called again, and goes on with what is left.
    pub ended_by: Option<String>,
}

impl Connectors {
    /// How many connectors of the selection a rotation would seal again.
    ///
    /// # Errors
    ///
    /// [`Error::NoKey`], the store's own.
    pub async fn candidates(&self, selection: Selection) -> Result<u64, Error> {
        let inner = self.0.clone();
        super::blocking(move || {
            let Inner { store, clock, .. } = &*inner;
            let rotation = Rotation { store, ring: inner.ring()?, clock: &**clock };
            Ok(rotation.count(&selection)?)
        })
        .await
    }

    /// Seals the connectors of the selection again with the active key, at most `batch_rows` (at
    /// least 1) in a transaction, and forgets those that were open. It goes on when its caller is
    /// gone, and ends early when the server goes down; what was done stays done.
    ///
    /// # Errors
    ///
    /// [`Error::RotationRunning`], [`Error::NoKey`]; the store's own if it failed before anything
    /// was done.
    pub async fn rotate(
        &self,
        selection: Selection,
        batch_rows: usize,
        actor: &str,
    ) -> Result<Rotated, Error> {
        let permit = self.0.rotating.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Error::RotationRunning)?;
        let (inner, actor) = (self.0.clone(), actor.to_owned());
        super::blocking(move || {
            let _one_at_a_time = permit;
            run(&inner, &selection, batch_rows, actor)
        })
        .await
    }
}

fn run(
    inner: &Inner,
    selection: &Selection,
    batch_rows: usize,
    actor: String,
) -> Result<Rotated, Error> {
    let Inner { store, clock, stopping, metrics, .. } = inner;
    let ring = inner.ring()?;
    let begun = Instant::now();
    let entry = Entry::begin(store, clock.now(), selection, actor, ring.active())?;
    let mut stopped = false;
    let report = Rotation { store, ring, clock: &**clock }.run(selection, batch_rows, |batch| {
        metrics.connectors.rotated(batch.rotated.len() as u64, batch.skipped);
        for ((tenant, provider), _) in &batch.rotated {
            if let Some(provider) = Provider::named(provider) {
                inner.changed(tenant, provider, Operation::Rotate);
            }
        }
        stopped = stopping.is_cancelled();
        if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let Report { rotated, skipped, mut errors, failed, fault } = report;
    if let Some(fault) = &fault {
        error!("connector key rotation ended early: {fault}");
    }
    let ended_by = match &fault {
        Some(fault) => Some(fault.to_string()),
        None if stopped => Some("the server goes down; run it again".to_owned()),
        None => None,
    };
    errors += u64::from(fault.is_some());
    metrics.connectors.not_rotated(errors);
    let took = begun.elapsed();
    metrics.connectors.rotation_took(took);
    if let Some(fault) = fault
        && rotated + skipped == 0
        && failed.is_empty()
    {
        return Err(fault.into());
    }
    let done = Rotated { rotated, skipped, errors, failed, ended_by };
    if let Err(unwritten) = entry.end(store, &done) {
        // The figures below are true all the same, and the entry says that it was begun.
        error!("the audit entry of a key rotation could not be completed: {unwritten}");
    }
    info!(
        n_rotated = rotated,
        n_skipped = skipped,
        n_errors = errors,
        duration_ms = took.as_millis() as u64,
        "Key rotation complete: {rotated} rotated, {errors} errors ({skipped} skipped, {:.3} s)",
        took.as_secs_f64()
    );
    Ok(done)
}

/// The entry of a rotation in the audit trail, written before anything is done and completed
/// after, so that one that was cut off is there too.
struct Entry {
    begun: UnixMicros,
    id: EventId,
    record: AuditRecord,
    asked: serde_json::Value,
}

impl Entry {
    fn begin(
        store: &Store,
        now: UnixMicros,
        selection: &Selection,
        actor: String,
        active: u32,
    ) -> Result<Self, StorageError> {
        let tenants: Vec<&str> = selection.tenants.iter().map(|tenant| tenant.as_str()).collect();
        let asked = json!({
            "providers": selection.providers, "tenants": tenants, "active_version": active,
        });
        let tenant = match &selection.tenants[..] {
            [only] => Some(only.clone()),
            _ => None,
        };
        let record = AuditRecord {
            tenant,
            actor,
            action: "connector.rotate_keys".to_owned(),
            object: "connectors".to_owned(),
            details: Json(asked.to_string()),
        };
        let entry = Self { begun: now, id: EventId::at(now), record: record.clone(), asked };
        let (begun, id) = (entry.begun, entry.id);
        store.write_blocking(move |tx| audit_as(tx, begun, id, &record))?;
        Ok(entry)
    }

    fn end(self, store: &Store, done: &Rotated) -> Result<(), StorageError> {
        let Self { begun, id, mut record, mut asked } = self;
        asked["rotated"] = done.rotated.into();
        asked["skipped"] = done.skipped.into();
        asked["errors"] = done.errors.into();
        record.details = Json(asked.to_string());
        store.write_blocking(move |tx| audit_as(tx, begun, id, &record))?;
        Ok(())
    }
}
