//! The audit trail: what administrators did.

use std::sync::Arc;

use activekg_storage::ids::{EventId, TenantId};
use activekg_storage::tables::auth::{AUDIT, AuditRecord};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable as _, Scan, StorageError, Store};
use tracing::error;

/// Entries that one call looks at, most of all; the next call goes on from there.
const LOOKED_MAX: usize = 100_000;

/// Which entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those about the data of this tenant alone.
    pub tenant: Option<TenantId>,
    /// Those of acts by this name.
    pub actor: Option<String>,
    /// Those of acts whose names begin so, such as `queue.`.
    pub action: Option<String>,
    /// Those of that instant and later.
    pub since: Option<UnixMicros>,
}

impl Wanted {
    fn holds(&self, record: &AuditRecord) -> bool {
        let of = |wanted: &Option<TenantId>| wanted.is_none() || *wanted == record.tenant;
        of(&self.tenant)
            && self.actor.as_ref().is_none_or(|actor| *actor == record.actor)
            && self.action.as_ref().is_none_or(|begin| record.action.starts_with(begin))
    }
}

/// Where in the trail an entry is.
pub type Place = (UnixMicros, EventId);

/// Some of the trail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    /// The newest first.
    pub entries: Vec<(Place, AuditRecord)>,
    /// Before which the next call goes on; `None` if nothing is left.
    pub next: Option<Place>,
}

/// At most `limit` entries before a place, or the newest. Reads from the disk.
///
/// # Errors
///
/// The store's own.
pub fn entries(
    store: &Arc<Store>,
    wanted: &Wanted,
    before: Option<Place>,
    limit: usize,
) -> Result<Entries, StorageError> {
    let mut scan = Scan::all().reversed();
    if let Some(since) = wanted.since {
        scan = scan.from(&(since,));
    }
    if let Some(before) = before {
        scan = scan.until(&before);
    }
    let mut found = Entries::default();
    for (n, row) in store.read()?.scan(&AUDIT, scan)?.enumerate() {
        let (place, record) = match row {
            Ok(row) => row,
            Err(damaged @ StorageError::Corrupt { .. }) => {
                error!("an entry of the audit trail cannot be read: {damaged}");
                continue;
            }
            Err(error) => return Err(error),
        };
        if wanted.holds(&record) {
            found.entries.push((place, record));
        }
        if found.entries.len() == limit || n + 1 == LOOKED_MAX {
            found.next = Some(place);
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use activekg_storage::StoreOptions;
    use activekg_storage::tables::Json;
    use activekg_storage::tables::auth::audit;

    use super::*;

    #[tokio::test]
    async fn entries_are_chosen_and_come_in_pages_the_newest_first() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path(), StoreOptions::default()).unwrap());
        let written = store.write(|tx| -> Result<(), StorageError> {
            for n in 0..10 {
                let tenant = (n % 2 == 0).then(|| TenantId::new("acme").unwrap());
                let action = if n < 5 { "queue.purge" } else { "keys.rotate" };
                let record = AuditRecord {
                    tenant,
                    actor: format!("admin {}", n % 3),
                    action: action.to_owned(),
                    object: n.to_string(),
                    details: Json("{}".to_owned()),
                };
                // Two of each instant.
                audit(tx, UnixMicros(n / 2), &record)?;
            }
            Ok(())
        });
        written.await.unwrap();
        let all = |wanted: &Wanted, limit: usize| {
            let (mut found, mut before) = (Vec::new(), None);
            loop {
                let page = entries(&store, wanted, before, limit).unwrap();
                assert!(page.entries.len() <= limit);
                found.extend(page.entries.into_iter().map(|(_, record)| record.object));
                before = page.next;
                if before.is_none() {
                    return found;
                }
            }
        };
        let everything = all(&Wanted::default(), 100);
        assert_eq!(everything.len(), 10);
        assert!(everything[..2].contains(&"9".to_owned()));
        for limit in 1..=4 {
            assert_eq!(all(&Wanted::default(), limit), everything, "{limit} a page");
        }
        let some = |wanted: Wanted| {
            let mut found = all(&wanted, 2);
            found.sort();
            found
        };
        let tenant = Some(TenantId::new("acme").unwrap());
        let of = |numbers: &[u8]| numbers.iter().map(u8::to_string).collect::<Vec<_>>();
        assert_eq!(some(Wanted { tenant, ..Wanted::default() }), of(&[0, 2, 4, 6, 8]));
        let actor = Some("admin 1".to_owned());
        assert_eq!(some(Wanted { actor, ..Wanted::default() }), of(&[1, 4, 7]));
        let action = Some("keys.".to_owned());
        assert_eq!(some(Wanted { action, ..Wanted::default() }), of(&[5, 6, 7, 8, 9]));
        let since = Some(UnixMicros(4));
        assert_eq!(some(Wanted { since, ..Wanted::default() }), of(&[8, 9]));
    }
}
