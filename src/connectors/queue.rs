//! The queues of changes: one for each provider, which keeps tenants apart.
//!
//! What a connector cannot work on, because it is not there or is off, is held; it is released by
//! whoever registers the connector or turns it on, in the same transaction.

use std::time::Duration;

use activekg_storage::ids::{JobId, TenantId};
use activekg_storage::queue::{self, Enqueued, NewJob, QueueDef};
use activekg_storage::tables::connectors::CONFIGS;
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, StorageError, WriteTx};

use super::{Change, Provider};

/// Why items are held when there is no connector to work on them.
pub const NO_CONFIG: &str = "no_config";

/// Most items that one transaction holds or releases, so that other writers need not wait long.
pub(crate) const MOVED_MAX: usize = 2000;

/// How long a worker has an item before another may take it, unless it renews that.
pub const LEASE: Duration = Duration::from_secs(300);

/// Attempts before a change is dead.
const ATTEMPTS_MAX: u32 = 3;

/// The queue of a provider's changes. An object has one live item at most: its URI is the key.
#[must_use]
pub const fn def(provider: Provider) -> &'static QueueDef {
    match provider {
        Provider::S3 => &S3,
        Provider::Gcs => &GCS,
        Provider::Drive => &DRIVE,
        Provider::Azure => &AZURE,
        Provider::Local => &LOCAL,
        Provider::Http => &HTTP,
    }
}

/// Changes of objects in S3.
pub const S3: QueueDef = of_changes("connector:s3");
/// Changes of objects in Google Cloud Storage.
pub const GCS: QueueDef = of_changes("connector:gcs");
/// Changes of files in Google Drive.
pub const DRIVE: QueueDef = of_changes("connector:drive");
/// Changes of blobs in Azure.
pub const AZURE: QueueDef = of_changes("connector:azure");
/// Changes of files of this machine.
pub const LOCAL: QueueDef = of_changes("connector:local");
/// Changes of web pages.
pub const HTTP: QueueDef = of_changes("connector:http");

/// An item that fails is tried again after up to 4 s, and after up to 8 s.
const fn of_changes(name: &'static str) -> QueueDef {
    QueueDef {
        lease: LEASE,
        max_attempts: ATTEMPTS_MAX,
        backoff_base: Duration::from_secs(4),
        backoff_cap: Duration::from_secs(60),
        ..QueueDef::named(name)
    }
}

/// The name that scripts know a tenant's part of a queue by.
#[must_use]
pub fn key(provider: Provider, tenant: &TenantId) -> String {
    format!("connector:{}:{tenant}:queue", provider.as_str())
}

/// The provider of a queue, if it is one of changes.
#[must_use]
pub fn provider_of(queue: &str) -> Option<Provider> {
    Provider::named(queue.strip_prefix("connector:")?)
}

/// Enqueues changes of one tenant's connector in a transaction of the caller's; how many were not
/// older news. Held at once if the tenant has no enabled connector of the provider.
///
/// # Errors
///
/// [`StorageError::TooLarge`] for a URI that is no key, or as for every write.
pub fn enqueue(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    provider: Provider,
    changes: &[Change],
    now: UnixMicros,
) -> Result<usize, StorageError> {
    let jobs = changes.iter().map(|change| NewJob {
        id: JobId::at(now),
        tenant: tenant.clone(),
        key: Some(change.uri.clone()),
        payload: change.item(tenant, now).to_string().into_bytes(),
        rank: change.rank(provider),
        run_at: None,
        now,
    });
    let enqueued = queue::enqueue_all(tx, def(provider), jobs.collect())?;
    if !is_enabled(tx, tenant, provider)? {
        queue::hold_ready(tx, def(provider), tenant, NO_CONFIG, changes.len())?;
    }
    let superseded = |enqueued: &&Enqueued| matches!(enqueued, Enqueued::Superseded(_));
    Ok(changes.len() - enqueued.iter().filter(superseded).count())
}

/// Whether the tenant has a connector of the provider that runs.
///
/// # Errors
///
/// As for every read.
pub fn is_enabled(
    tx: &impl Readable,
    tenant: &TenantId,
    provider: Provider,
) -> Result<bool, StorageError> {
    let found = tx.get(&CONFIGS, &(tenant.clone(), provider.as_str().to_owned()))?;
    Ok(found.is_some_and(|connector| connector.enabled))
}

/// Moves up to [`MOVED_MAX`] of a tenant's items to where they belong: held if the tenant has no
/// connector that runs, else ready. True if there may be more.
///
/// # Errors
///
/// As for every write.
pub(crate) fn follow(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    provider: Provider,
) -> Result<bool, StorageError> {
    Ok(follow_up_to(tx, tenant, provider, MOVED_MAX)? == MOVED_MAX)
}

fn follow_up_to(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    provider: Provider,
    most: usize,
) -> Result<usize, StorageError> {
    let queue = def(provider);
    if is_enabled(tx, tenant, provider)? {
        queue::release_held(tx, queue, tenant, most)
    } else {
        queue::hold_ready(tx, queue, tenant, NO_CONFIG, most)
    }
}

/// [`follow`] for the owners from `first` on, in their order, and no more than [`MOVED_MAX`] of all
/// their items. With which of them to go on; `None` when all are done.
///
/// # Errors
///
/// As for every write.
pub(crate) fn follow_all(
    tx: &mut WriteTx<'_>,
    owners: &[(TenantId, Provider)],
    first: usize,
) -> Result<Option<usize>, StorageError> {
    let mut left = MOVED_MAX;
    for (place, (tenant, provider)) in owners.iter().enumerate().skip(first) {
        left -= follow_up_to(tx, tenant, *provider, left)?;
        if left == 0 {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use activekg_storage::{Store, StoreOptions};

    use super::*;
    use crate::connectors::{Action, Origin};

    #[tokio::test]
    async fn what_is_held_follows_in_steps() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
        let owners = ["acme", "harbor"].map(|name| (TenantId::new(name).unwrap(), Provider::S3));
        let (of, now) = (owners.clone(), UnixMicros(1));
        let written = store.write(move |tx| {
            for (tenant, provider) in &of {
                let changes = (0..MOVED_MAX - 500)
                    .map(|n| Change::new(format!("s3://docs/{n}"), Action::Upsert, Origin::Poll));
                enqueue(tx, tenant, *provider, &changes.collect::<Vec<_>>(), now)?;
                // Without a connector they are held; now they are as if it had been there.
                queue::release_held(tx, def(*provider), tenant, MOVED_MAX)?;
            }
            Ok::<_, StorageError>(())
        });
        written.await.unwrap();
        let held = |store: &Store| queue::depths(&store.read().unwrap(), &S3).unwrap().held;
        let (mut next, mut seen) = (Some(0), Vec::new());
        while let Some(first) = next {
            let of = owners.clone();
            next = store.write(move |tx| follow_all(tx, &of, first)).await.unwrap().value;
            seen.push((held(&store), next));
        }
        assert_eq!(seen, [(2000, Some(1)), (3000, None)]);
    }
}
