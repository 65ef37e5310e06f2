//! Taking in what a source holds, because somebody asks for it.

use std::sync::Arc;

use activekg_storage::ids::TenantId;
use activekg_storage::tables::connectors::{CURSORS, CursorRecord};
use activekg_storage::time::Clock;
use activekg_storage::{Readable, StorageError, Store};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use super::change::{Action, Change, Origin};
use super::source::{Fault, Found, PAGE_MAX};
use super::{NoPlace, Place, Places, document_name, queue};
use crate::graph::{self, Graph};

/// Objects that one call looks at, most of all: a source may hold any number of which nothing has
/// changed. The next call goes on from there.
const LISTED_MAX: usize = 100_000;

/// Enqueues what sources hold. A clone is cheap.
#[derive(Clone)]
pub struct Feed {
    store: Arc<Store>,
    graph: Graph,
    places: Places,
    clock: Arc<dyn Clock>,
}

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Which objects.
    pub objects: Objects,
    /// Enqueue no more than so many.
    pub limit: usize,
    /// Enqueue so many in one transaction.
    pub batch: usize,
    /// Pass by objects whose document is as they are.
    pub skip_existing: bool,
    /// Only count.
    pub dry_run: bool,
    /// What the changes say of their origin.
    pub origin: Origin,
}

/// Which objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objects {
    /// Those below a prefix, or all, after a cursor of an earlier call.
    Listed {
        /// Below it.
        prefix: Option<String>,
        /// After it.
        cursor: Option<String>,
    },
    /// These.
    Named(Vec<String>),
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fed {
    /// Names the call in the changes that it enqueued.
    pub job: Uuid,
    /// Objects that were looked at.
    pub found: usize,
    /// Of these were enqueued, or would be.
    pub queued: usize,
    /// Of these were passed by.
    pub skipped: usize,
    /// Where a call goes on after this; `None` if nothing is left.
    pub next: Option<String>,
}

/// How far the listing of a source has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// What the provider goes on from.
    pub cursor: String,
    /// When it last moved.
    pub updated_at: activekg_storage::time::UnixMicros,
}

/// Why nothing, or not all, was enqueued. What was enqueued before stays so.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// There is no source to ask.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
    /// The prefix leads out of what the connector is for.
    #[error("prefix outside connector prefix")]
    Prefix,
    /// The cursor is none of the source's.
    #[error("cursor is not one of this connector")]
    Cursor,
    /// The source cannot be asked.
    #[error("{provider}: {fault}")]
    Source {
        /// Which.
        provider: &'static str,
        /// Why.
        fault: Fault,
    },
    /// The graph cannot be asked.
    #[error(transparent)]
    Graph(#[from] graph::Error),
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Feed {
    /// Enqueues what `places` hold of which `graph` does not know.
    #[must_use]
    pub fn new(store: Arc<Store>, graph: Graph, places: Places, clock: Arc<dyn Clock>) -> Self {
        Self { store, graph, places, clock }
    }

    /// Enqueues objects of a tenant's connector, page by page.
    ///
    /// # Errors
    ///
    /// [`FeedError`].
    pub async fn take(
        &self,
        tenant: &TenantId,
        provider: &str,
        asked: Asked,
    ) -> Result<Fed, FeedError> {
        let place = self.places.of(tenant, provider).await?;
        let job = Uuid::new_v4();
        let mut fed = Fed { job, found: 0, queued: 0, skipped: 0, next: None };
        let (prefix, cursor) = match &asked.objects {
            Objects::Named(uris) => {
                let changes = uris.iter().map(|uri| Change {
                    job_id: Some(job),
                    ..Change::new(uri.clone(), Action::Upsert, asked.origin)
                });
                let changes: Vec<Change> = changes.collect();
                fed.found = changes.len();
                fed.queued = changes.len();
                self.enqueue(&place, &asked, changes).await?;
                return Ok(fed);
            }
            Objects::Listed { prefix, cursor } => (prefix.as_deref(), cursor.as_deref()),
        };
        if prefix.is_some_and(|prefix| !prefix.starts_with(&place.prefix)) {
            return Err(FeedError::Prefix);
        }
        let (mut cursor, mut shorter) = (cursor.map(unwrapped), None::<usize>);
        loop {
            let left = asked.limit - fed.queued;
            let whole = if asked.skip_existing { PAGE_MAX } else { PAGE_MAX.min(left) };
            let n = shorter.take().unwrap_or(whole);
            let page = place.source.list(prefix, cursor.as_deref(), n).await;
            let provider = place.provider.as_str();
            let page = page.map_err(|fault| match fault {
                fault if fault == Fault::cursor() => FeedError::Cursor,
                fault => FeedError::Source { provider, fault },
            })?;
            let n_found = page.found.len();
            let wanted = self.wanted(&place, page.found, asked.skip_existing).await?;
            if let Some((until, _)) = wanted.get(left)
                && n > 1
            {
                // Asked for again up to there, so that the next call begins where this one ends.
                shorter = Some((*until).clamp(1, n - 1));
                continue;
            }
            fed.found += n_found;
            fed.queued += wanted.len();
            let changes = wanted.into_iter().map(|(_, found)| Change {
                uri: found.uri,
                action: Action::Upsert,
                etag: found.etag,
                generation: found.generation,
                sequencer: None,
                modified_at: found.modified_at,
                origin: asked.origin,
                job_id: Some(job),
            });
            self.enqueue(&place, &asked, changes.collect()).await?;
            cursor = page.next;
            if cursor.is_none() || fed.queued >= asked.limit || fed.found >= LISTED_MAX {
                break;
            }
        }
        fed.skipped = fed.found - fed.queued;
        fed.next = cursor;
        Ok(fed)
    }

    /// The objects that are not as their documents are, and are not queued already, with their
    /// places among those found.
    async fn wanted(
        &self,
        place: &Place,
        found: Vec<Found>,
        skip_existing: bool,
    ) -> Result<Vec<(usize, Found)>, FeedError> {
        if !skip_existing || found.is_empty() {
            return Ok(found.into_iter().enumerate().collect());
        }
        let Place { tenant, provider, .. } = place;
        let names = found.iter().map(|found| document_name(*provider, tenant, &found.uri));
        let known = self.graph.known_documents(tenant, names.collect()).await?;
        let uris: Vec<String> = found.iter().map(|found| found.uri.clone()).collect();
        let (store, owner, def) = (self.store.clone(), tenant.clone(), queue::def(*provider));
        let live = tokio::task::spawn_blocking(move || {
            let tx = store.read()?;
            uris.iter()
                .map(|uri| activekg_storage::queue::is_live(&tx, def, &owner, uri))
                .collect::<Result<Vec<_>, _>>()
        });
        let live = live.await.map_err(|_| graph::Error::Interrupted)??;
        let found = found.into_iter().enumerate().zip(known).zip(live);
        let wanted = found.filter(|(((_, found), known), live)| {
            let same = known.as_ref().is_some_and(|known| {
                !known.is_deleted && found.etag.is_some() && known.etag == found.etag
            });
            !same && !live
        });
        Ok(wanted.map(|((found, _), _)| found).collect())
    }

    async fn enqueue(
        &self,
        place: &Place,
        asked: &Asked,
        mut changes: Vec<Change>,
    ) -> Result<(), FeedError> {
        if asked.dry_run {
            return Ok(());
        }
        while !changes.is_empty() {
            let rest = changes.split_off(changes.len().min(asked.batch));
            let batch = std::mem::replace(&mut changes, rest);
            let (tenant, provider) = (place.tenant.clone(), place.provider);
            let now = self.clock.now();
            let enqueued = self.store.write(move |tx| -> Result<usize, StorageError> {
                queue::enqueue(tx, &tenant, provider, &batch, now)
            });
            enqueued.await?;
        }
        Ok(())
    }

    /// How far the listing of a tenant's source has come; `None` before the first.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn cursor(
        &self,
        tenant: &TenantId,
        provider: &str,
    ) -> Result<Option<Read>, FeedError> {
        let store = self.store.clone();
        let key = (tenant.clone(), provider.to_owned(), String::new());
        let read = tokio::task::spawn_blocking(move || store.read()?.get(&CURSORS, &key));
        let read = read.await.map_err(|_| graph::Error::Interrupted)??;
        Ok(read.map(|CursorRecord { cursor, updated_at }| Read { cursor, updated_at }))
    }
}

/// A cursor as it was handed out. Clients may send one that is JSON in base64.
fn unwrapped(cursor: &str) -> String {
    let decoded = STANDARD.decode(cursor.trim()).ok();
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let is_object = |text: &String| {
        serde_json::from_str::<serde_json::Value>(text).is_ok_and(|value| value.is_object())
    };
    text.filter(is_object).unwrap_or_else(|| cursor.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_plain_or_wrapped() {
        let plain = r#"{"page_token":"17"}"#;
        assert_eq!(unwrapped(plain), plain);
        assert_eq!(unwrapped(&STANDARD.encode(plain)), plain);
        for other in ["", "a/b.txt", "MTc=", "not base64!"] {
            assert_eq!(unwrapped(other), other);
        }
    }
}
