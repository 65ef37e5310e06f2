//! Enqueues what messages tell of, once.

use std::collections::BTreeMap;

use activekg_storage::StorageError;
use activekg_storage::ids::TenantId;
use activekg_storage::tables::webhooks::{advance, forget_ended, mark};

use super::binding::{self, Binding};
use super::s3::Event;
use super::{Refused, Webhooks, blocking};
use crate::connectors::Provider;
use crate::connectors::change::Change;
use crate::connectors::queue;
use crate::observability::metrics::WorkerError;

/// Rows past their end that a message removes: more than it adds, so that they do not pile up.
const FORGET: usize = 64;

/// Who gets events of objects that nobody's connector is about.
const REST: &str = "default";

/// What a message tells one tenant.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) tenant: TenantId,
    pub(super) changes: Vec<Change>,
}

impl Webhooks {
    /// Enqueues the parts of a message, which is remembered by its source and id if it has one: how
    /// many changes were not older news, or `None` if the message came before. It is durable, all
    /// or nothing, when this returns.
    pub(super) async fn take(
        &self,
        provider: Provider,
        message: Option<(&'static str, String)>,
        parts: Vec<Part>,
    ) -> Result<Option<usize>, Refused> {
        let now = self.now();
        let until = now.plus(self.0.settings.dedup_ttl);
        let taken = self.0.store.write(move |tx| -> Result<_, StorageError> {
            forget_ended(tx, now, FORGET)?;
            if let Some((source, id)) = &message
                && !mark(tx, (source, id), now, until)?
            {
                return Ok(None);
            }
            let (mut n_queued, mut held) = (0, Vec::new());
            for Part { tenant, changes } in parts {
                let mut news = Vec::with_capacity(changes.len());
                for change in changes {
                    let object = (provider.as_str(), change.uri.as_str());
                    let is_news = match change.rank(provider) {
                        Some(rank) => advance(tx, &tenant, object, rank, until)?,
                        None => true,
                    };
                    if is_news {
                        news.push(change);
                    }
                }
                let n = queue::enqueue(tx, &tenant, provider, &news, now)?;
                if n > 0 && !queue::is_enabled(tx, &tenant, provider)? {
                    held.push((tenant, n));
                }
                n_queued += n;
            }
            Ok(Some((n_queued, held)))
        });
        let Some((n_queued, held)) = taken.await?.value else {
            self.0.metrics.webhooks.replayed();
            return Ok(None);
        };
        for (tenant, n) in held {
            for _ in 0..n {
                self.0.metrics.ingest.worker_error(&tenant, provider, WorkerError::NoConfig);
            }
        }
        Ok(Some(n_queued))
    }

    /// Events of S3 by the tenants whose connectors are about their objects, and how many are about
    /// objects that the tenant who gets all others does not want.
    pub(super) async fn routed(&self, events: Vec<Event>) -> Result<(Vec<Part>, usize), Refused> {
        let store = self.0.store.clone();
        blocking(move || {
            let tx = store.read()?;
            let rest = TenantId::new(REST).expect("a word names a tenant");
            let bound = Binding::of(&tx, &rest, Provider::S3)?;
            let mut parts: BTreeMap<TenantId, Vec<Change>> = BTreeMap::new();
            let mut n_ignored = 0;
            for Event { bucket, key, change } in events {
                let owners = binding::owners(&tx, Provider::S3, &bucket, &key)?;
                if owners.is_empty() {
                    if bound.as_ref().is_some_and(|bound| !bound.covers(&bucket, &key)) {
                        n_ignored += 1;
                    } else {
                        parts.entry(rest.clone()).or_default().push(change);
                    }
                    continue;
                }
                for (tenant, _) in owners {
                    parts.entry(tenant).or_default().push(change.clone());
                }
            }
            let parts = parts.into_iter().map(|(tenant, changes)| Part { tenant, changes });
            Ok((parts.collect(), n_ignored))
        })
        .await
    }
}
