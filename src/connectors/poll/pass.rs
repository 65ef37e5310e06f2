//! Listing a source whole.

use std::collections::HashSet;

use activekg_storage::ids::TenantId;
use activekg_storage::tables::connectors::{POLLED, PolledRecord};
use activekg_storage::tables::graph::NODES;
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Scan, StorageError, WriteTx};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tracing::warn;

use super::super::change::URI_MAX;
use super::super::source::{PAGE_MAX, Page};
use super::super::{Action, Change, Found, Origin, Provider, blocking, queue};
use super::{OBJECTS_MAX, PAGES_MAX, PollError, Run, STEP, endless, still_on, upsert};
use crate::documents::identity;
use crate::graph::is_deleted_by_hand;
use crate::timestamp::iso;

/// Objects that are compared with what was listed at a time.
const KNOWN_STEP: usize = if cfg!(test) { 7 } else { 10_000 };
/// Objects that cannot be taken which are told of one by one.
const TOLD_MAX: u64 = 20;

/// Stands for an address in memory.
type Mark = [u8; 16];

impl Run<'_> {
    /// Lists the source whole and queues what differs; what to keep as its cursor.
    pub(super) async fn pass(&mut self) -> Result<String, PollError> {
        let began = self.connectors.0.clock.now();
        let (mut seen, mut newest) = (HashSet::<Mark>::new(), None::<UnixMicros>);
        let mut cursor = None::<String>;
        for _ in 0..PAGES_MAX {
            let page = self.source.list(None, cursor.as_deref(), PAGE_MAX).await?;
            let Page { found, unusable, next } = page;
            let (found, long): (Vec<Found>, Vec<Found>) =
                found.into_iter().partition(|found| found.uri.len() <= URI_MAX);
            self.polled.unusable += long.len() as u64;
            if let Some(first) = long.first() {
                let (tenant_id, provider) = (self.tenant, self.provider.as_str());
                warn!(%tenant_id, provider, "connector: Skipping {} objects: addresses such as {:.80}.. are too long", long.len(), first.uri);
            }
            for found in &found {
                seen.insert(mark(&found.uri));
                newest = newest.max(found.modified_at);
            }
            for unusable in &unusable {
                self.polled.unusable += 1;
                if self.polled.unusable <= TOLD_MAX {
                    let (name, why) = (&unusable.name, unusable.why);
                    let (tenant_id, provider) = (self.tenant, self.provider.as_str());
                    warn!(%tenant_id, provider, object = name, "connector: Skipping {name:?}: {why}");
                }
            }
            self.take(found).await?;
            if next.is_none() {
                self.reconcile(&seen).await?;
                return Ok(self.cursor_text(newest, began));
            }
            if next == cursor || seen.len() > OBJECTS_MAX {
                break;
            }
            cursor = next;
        }
        Err(endless().into())
    }

    /// Queues what differs from what is remembered.
    async fn take(&mut self, found: Vec<Found>) -> Result<(), PollError> {
        self.polled.seen += found.len() as u64;
        let (inner, tenant, provider) =
            (self.connectors.0.clone(), self.tenant.clone(), self.provider);
        let differs = blocking(move || {
            let tx = inner.store.read()?;
            let mut differs = Vec::new();
            for found in found {
                if !is_known(&tx, &tenant, provider, &found)? {
                    differs.push(found);
                }
            }
            Ok(differs)
        });
        let differs = differs.await?;
        if differs.is_empty() {
            return Ok(());
        }
        let (tenant, version) = (self.tenant.clone(), self.version);
        let now = self.connectors.0.clock.now();
        let written = self.connectors.0.store.write(move |tx| {
            still_on(tx, &tenant, provider, version)?;
            for found in &differs {
                remember(tx, &tenant, provider, found, now)?;
            }
            let changes: Vec<Change> = differs.iter().map(upsert).collect();
            queue::enqueue(tx, &tenant, provider, &changes, now)?;
            Ok::<_, PollError>(changes.len())
        });
        self.polled.queued += written.await?.value as u64;
        Ok(())
    }

    /// Queues the end of what was known and is listed no more. The source is asked for each once
    /// more: it may have come while the listing went on.
    async fn reconcile(&mut self, seen: &HashSet<Mark>) -> Result<(), PollError> {
        let mut after = None;
        loop {
            let known = self.known(after.take(), KNOWN_STEP).await?;
            after = known.last().cloned();
            let missing: Vec<String> =
                known.into_iter().filter(|uri| !seen.contains(&mark(uri))).collect();
            self.confirm(&missing).await?;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Queues the end of those that the source confirms to be gone.
    async fn confirm(&mut self, missing: &[String]) -> Result<(), PollError> {
        for missing in missing.chunks(STEP) {
            let asked = self.looked_up(missing).await;
            // What cannot be told stays, as does what another source has to answer for.
            let gone = asked.into_iter().filter(|(_, found)| matches!(found, Ok(None)));
            let gone: Vec<String> = gone.map(|(uri, _)| uri.clone()).collect();
            if gone.is_empty() {
                continue;
            }
            let (tenant, provider, version) = (self.tenant.clone(), self.provider, self.version);
            let now = self.connectors.0.clock.now();
            let written = self.connectors.0.store.write(move |tx| {
                still_on(tx, &tenant, provider, version)?;
                let mut changes = Vec::with_capacity(gone.len());
                for uri in gone {
                    forget(tx, &tenant, provider, &uri)?;
                    changes.push(Change::new(uri, Action::Deleted, Origin::Poll));
                }
                queue::enqueue(tx, &tenant, provider, &changes, now)?;
                Ok::<_, PollError>(changes.len() as u64)
            });
            let n_gone = written.await?.value;
            self.polled.queued += n_gone;
            self.polled.gone += n_gone;
        }
        Ok(())
    }

    /// The next `n` addresses that are remembered of this connector, in their order; none at the end.
    async fn known(&self, after: Option<String>, n: usize) -> Result<Vec<String>, PollError> {
        let (tenant, provider) = (self.tenant.clone(), self.provider.as_str().to_owned());
        let inner = self.connectors.0.clone();
        let known = blocking(move || {
            let mut scan = Scan::prefix(&(tenant.clone(), provider.clone()));
            if let Some(after) = after {
                scan = scan.after(&(tenant, provider, after));
            }
            let tx = inner.store.read()?;
            let rows = tx.scan(&POLLED, scan)?.take(n);
            let known = rows.map(|row| row.map(|((_, _, uri), _)| uri));
            Ok(known.collect::<Result<Vec<_>, StorageError>>()?)
        });
        Ok(known.await?)
    }

    /// Whether objects are remembered whose addresses are this one, a slash and more.
    pub(super) async fn knows_below(&self, uri: &str) -> Result<bool, PollError> {
        let folder = format!("{uri}/");
        let next = self.known(Some(folder.clone()), 1).await?;
        Ok(next.first().is_some_and(|next| next.starts_with(&folder)))
    }

    /// The cursor of a listing that has come to its end, as scripts know it.
    fn cursor_text(&self, newest: Option<UnixMicros>, began: UnixMicros) -> String {
        let cursor = match self.provider {
            Provider::S3 => json!({ "ContinuationToken": null }),
            Provider::Gcs => json!({ "high_water": newest.map(|at| iso(at.get())) }),
            Provider::Drive | Provider::Azure | Provider::Local | Provider::Http => {
                json!({ "listed_at": iso(began.get()) })
            }
        };
        cursor.to_string()
    }
}

/// Whether an object is as it was when it was queued last, and its document not hidden by
/// its source.
fn is_known(
    tx: &impl Readable,
    tenant: &TenantId,
    provider: Provider,
    found: &Found,
) -> Result<bool, StorageError> {
    let key = (tenant.clone(), provider.as_str().to_owned(), found.uri.clone());
    let known = tx.get(&POLLED, &key)?.is_some_and(|known| known.version == version(found));
    if !known {
        return Ok(false);
    }
    let rest = found.uri.split_once("://").map_or(found.uri.as_str(), |(_, rest)| rest);
    let id = identity::node_id(&identity::external_id(provider.as_str(), tenant, rest));
    let node = tx.get(&NODES, &(tenant.clone(), id))?;
    // It was deleted by its source, and is there again as it was.
    Ok(node.is_none_or(|node| !node.deleted || is_deleted_by_hand(&node)))
}

/// Remembers an object as it is; whether it was not known so.
pub(super) fn remember(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    provider: Provider,
    found: &Found,
    now: UnixMicros,
) -> Result<bool, StorageError> {
    let known = is_known(tx, tenant, provider, found)?;
    if !known {
        let key = (tenant.clone(), provider.as_str().to_owned(), found.uri.clone());
        tx.put(&POLLED, &key, &PolledRecord { version: version(found), polled_at: now })?;
    }
    Ok(!known)
}

/// Forgets an object; whether it was known.
pub(super) fn forget(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    provider: Provider,
    uri: &str,
) -> Result<bool, StorageError> {
    tx.remove(&POLLED, &(tenant.clone(), provider.as_str().to_owned(), uri.to_owned()))
}

/// What tells a version of an object from the next. Generations are not in every listing.
fn version(found: &Found) -> String {
    match (&found.etag, found.modified_at) {
        (Some(etag), _) => etag.clone(),
        (None, modified_at) => format!(
            "{}-{}",
            modified_at.map_or(0, UnixMicros::get),
            found.size.map(|size| size.to_string()).unwrap_or_default()
        ),
    }
}

fn mark(uri: &str) -> Mark {
    let mut mark = Mark::default();
    mark.copy_from_slice(&Sha256::digest(uri.as_bytes())[..16]);
    mark
}
