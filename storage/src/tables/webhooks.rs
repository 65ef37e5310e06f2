//! Webhooks: which messages came already, and how new the news of each object is.
//!
//! Rows have an end, after which they are removed a few at a time by whoever writes next.

use serde::{Deserialize, Serialize};

use crate::codec::Record;
use crate::error::StorageError;
use crate::ids::TenantId;
use crate::keys::Key;
use crate::queue::Rank;
use crate::read::Readable;
use crate::table::{Scan, Table, TableInfo};
use crate::time::UnixMicros;
use crate::write::WriteTx;

/// (source, message) -> until when it counts. One message. It belongs to whoever sent it, before a
/// tenant is known.
pub const SEEN: Table<(String, String), SeenRecord> = Table::new("webhooks.seen");

/// (end, source, message). The rows of [`SEEN`] in order of their ends.
pub const SEEN_UNTIL: Table<(UnixMicros, String, String), ()> = Table::new("webhooks.seen_until");

/// (tenant, provider, uri) -> the newest change that was heard of. One object.
pub const NEWEST: Table<(TenantId, String, String), NewestRecord> = Table::new("webhooks.newest");

/// (end, tenant, provider, uri). The rows of [`NEWEST`] in order of their ends.
pub const NEWEST_UNTIL: Table<(UnixMicros, TenantId, String, String), ()> =
    Table::new("webhooks.newest_until");

pub(crate) const TABLES: &[TableInfo] = &[
    TableInfo::of(&SEEN),
    TableInfo::of(&SEEN_UNTIL),
    TableInfo::of(&NEWEST),
    TableInfo::of(&NEWEST_UNTIL),
];

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenRecord {
    /// From when on the same message counts as another one.
    pub until: UnixMicros,
}

impl Record for SeenRecord {
    const FORMAT: u8 = 1;
}

/// The newest change of an object that was heard of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewestRecord {
    /// Its place among those of the object.
    pub rank: Rank,
    /// From when on it is forgotten.
    pub until: UnixMicros,
}

impl Record for NewestRecord {
    const FORMAT: u8 = 1;
}

/// From `now` on a message counts as seen for as long as `until`; false if it was already.
///
/// # Errors
///
/// As for every write.
pub fn mark(
    tx: &mut WriteTx<'_>,
    (source, message): (&str, &str),
    now: UnixMicros,
    until: UnixMicros,
) -> Result<bool, StorageError> {
    let key = (source.to_owned(), message.to_owned());
    if let Some(before) = tx.get(&SEEN, &key)? {
        if before.until > now {
            return Ok(false);
        }
        tx.remove(&SEEN_UNTIL, &(before.until, key.0.clone(), key.1.clone()))?;
    }
    tx.put(&SEEN_UNTIL, &(until, key.0.clone(), key.1.clone()), &())?;
    tx.put(&SEEN, &key, &SeenRecord { until })?;
    Ok(true)
}

/// Remembers a change as the newest of an object until `until`; false if a newer one is known. The
/// object is that of a tenant, by its provider and URI.
///
/// # Errors
///
/// As for every write.
pub fn advance(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    (provider, uri): (&str, &str),
    rank: Rank,
    until: UnixMicros,
) -> Result<bool, StorageError> {
    let key = (tenant.clone(), provider.to_owned(), uri.to_owned());
    let end = |until| (until, key.0.clone(), key.1.clone(), key.2.clone());
    if let Some(before) = tx.get(&NEWEST, &key)? {
        if before.rank > rank {
            return Ok(false);
        }
        tx.remove(&NEWEST_UNTIL, &end(before.until))?;
    }
    tx.put(&NEWEST_UNTIL, &end(until), &())?;
    tx.put(&NEWEST, &key, &NewestRecord { rank, until })?;
    Ok(true)
}

/// Removes what has ended by `now`, at most `most` rows of each kind; how many they were.
///
/// # Errors
///
/// As for every write.
pub fn forget_ended(
    tx: &mut WriteTx<'_>,
    now: UnixMicros,
    most: usize,
) -> Result<usize, StorageError> {
    let mut n_removed = 0;
    for end in ended(tx, &SEEN_UNTIL, most, |(until, ..)| *until <= now)? {
        tx.remove(&SEEN_UNTIL, &end)?;
        let (_, source, message) = end;
        tx.remove(&SEEN, &(source, message))?;
        n_removed += 1;
    }
    for end in ended(tx, &NEWEST_UNTIL, most, |(until, ..)| *until <= now)? {
        tx.remove(&NEWEST_UNTIL, &end)?;
        let (_, tenant, provider, uri) = end;
        tx.remove(&NEWEST, &(tenant, provider, uri))?;
        n_removed += 1;
    }
    Ok(n_removed)
}

/// The first rows of a table that is in order of ends, as far as they have ended, at most `most`.
fn ended<K: Key>(
    tx: &impl Readable,
    table: &Table<K, ()>,
    most: usize,
    has_ended: impl Fn(&K) -> bool,
) -> Result<Vec<K>, StorageError> {
    let mut ended = Vec::new();
    for row in tx.scan(table, Scan::all())?.take(most) {
        let (end, ()) = row?;
        if !has_ended(&end) {
            break;
        }
        ended.push(end);
    }
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{open, write};

    fn at(micros: i64) -> UnixMicros {
        UnixMicros(micros)
    }

    #[test]
    fn a_message_counts_once_until_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        write(&store, |tx| {
            assert!(mark(tx, ("sns", "a"), at(1), at(10))?);
            assert!(!mark(tx, ("sns", "a"), at(9), at(18))?);
            assert!(mark(tx, ("pubsub", "a"), at(9), at(18))?);
            assert!(mark(tx, ("sns", "a"), at(10), at(20))?);
            assert!(!mark(tx, ("sns", "a"), at(19), at(30))?);
            Ok(())
        });
        let tx = store.read().unwrap();
        assert_eq!(tx.scan(&SEEN_UNTIL, Scan::all()).unwrap().count(), 2, "one end a message");
    }

    #[test]
    fn older_news_is_told_apart_by_object() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let [acme, harbor] = ["acme", "harbor"].map(|name| TenantId::new(name).unwrap());
        write(&store, move |tx| {
            let rank = Rank::of_number;
            assert!(advance(tx, &acme, ("s3", "s3://b/k"), rank(5), at(10))?);
            assert!(!advance(tx, &acme, ("s3", "s3://b/k"), rank(4), at(11))?);
            assert!(advance(tx, &acme, ("s3", "s3://b/k"), rank(5), at(12))?);
            assert!(advance(tx, &acme, ("s3", "s3://b/l"), rank(1), at(12))?);
            assert!(advance(tx, &harbor, ("s3", "s3://b/k"), rank(1), at(12))?);
            assert!(advance(tx, &acme, ("gcs", "s3://b/k"), rank(1), at(12))?);
            Ok(())
        });
        let tx = store.read().unwrap();
        assert_eq!(tx.scan(&NEWEST_UNTIL, Scan::all()).unwrap().count(), 4, "one end an object");
    }

    #[test]
    fn what_has_ended_goes_a_few_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let acme = TenantId::new("acme").unwrap();
        write(&store, move |tx| {
            for n in 0..5 {
                let name = n.to_string();
                mark(tx, ("sns", &name), at(0), at(n + 1))?;
                advance(tx, &acme, ("s3", &name), Rank::of_number(1), at(n + 1))?;
            }
            assert_eq!(forget_ended(tx, at(3), 2)?, 4);
            assert_eq!(forget_ended(tx, at(3), 9)?, 2);
            assert_eq!(forget_ended(tx, at(3), 9)?, 0);
            Ok(())
        });
        let tx = store.read().unwrap();
        assert_eq!(tx.scan(&SEEN, Scan::all()).unwrap().count(), 2);
        assert_eq!(tx.scan(&NEWEST, Scan::all()).unwrap().count(), 2);
    }
}
