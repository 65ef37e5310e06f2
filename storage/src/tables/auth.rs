//! Who did what.

use serde::{Deserialize, Serialize};

use super::Json;
use crate::codec::Record;
use crate::error::StorageError;
use crate::ids::{EventId, TenantId};
use crate::table::{Table, TableInfo};
use crate::time::UnixMicros;
use crate::write::WriteTx;

/// (time, entry) -> entry of the audit trail. All of them in order of time, either way.
pub const AUDIT: Table<(UnixMicros, EventId), AuditRecord> = Table::new("auth.audit").two_phase();

pub(crate) const TABLES: &[TableInfo] = &[TableInfo::of(&AUDIT)];

/// An administrator's act: on queues, keys, backups. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Whose data it was about; `None` for everybody's.
    pub tenant: Option<TenantId>,
    /// Who did it: the subject of a token, or the user of the machine.
    pub actor: String,
    /// What was done, as `area.verb`.
    pub action: String,
    /// What it was done to.
    pub object: String,
    /// Particulars: a JSON object.
    pub details: Json,
}

impl Record for AuditRecord {
    const FORMAT: u8 = 1;
}

/// Adds an entry, in the transaction of the act itself.
///
/// # Errors
///
/// As for every write.
pub fn audit(
    tx: &mut WriteTx<'_>,
    now: UnixMicros,
    record: &AuditRecord,
) -> Result<(), StorageError> {
    audit_as(tx, now, EventId::at(now), record)
}

/// [`audit`] for an act of several transactions: each of them puts what was done so far in place
/// of what the one before said, under the same time and id.
///
/// # Errors
///
/// As for every write.
pub fn audit_as(
    tx: &mut WriteTx<'_>,
    begun: UnixMicros,
    id: EventId,
    record: &AuditRecord,
) -> Result<(), StorageError> {
    tx.put(&AUDIT, &(begun, id), record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::Readable as _;
    use crate::store::testing::{open, write};
    use crate::table::Scan;

    #[test]
    fn entries_are_in_order_and_share_an_instant() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let entry = |object: &str| AuditRecord {
            tenant: Some(TenantId::new("acme").unwrap()),
            actor: "root".to_owned(),
            action: "queue.purge".to_owned(),
            object: object.to_owned(),
            details: Json::default(),
        };
        let entries = [(2, "later"), (1, "once"), (1, "twice")].map(|(at, what)| (at, entry(what)));
        write(&store, move |tx| {
            entries.iter().try_for_each(|(at, entry)| audit(tx, UnixMicros(*at), entry))
        });
        let snapshot = store.read().unwrap();
        let rows = snapshot.scan(&AUDIT, Scan::all()).unwrap().map(Result::unwrap);
        let found: Vec<_> = rows.map(|((at, _), entry)| (at.0, entry.object)).collect();
        assert_eq!(found.len(), 3);
        assert_eq!(found[2], (2, "later".to_owned()));
        assert!(found[..2].iter().all(|(at, _)| *at == 1));
    }
}
