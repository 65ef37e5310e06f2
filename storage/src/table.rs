//! Typed tables, and which rows of one a scan is about.

use std::fmt;
use std::marker::PhantomData;

use crate::codec::{self, Record};
use crate::error::StorageError;
use crate::keys::{self, Key, PrefixOf};

/// A table: a name, the type of its keys, the type of its values. Declared as a constant.
pub struct Table<K, V> {
    name: &'static str,
    two_phase: bool,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Record> Table<K, V> {
    /// Declares the table `name`, unique in the store, in the form `area.things`.
    #[must_use]
    pub const fn new(name: &'static str) -> Table<K, V> {
        Table { name, two_phase: false, types: PhantomData }
    }

    /// Declares that commits which touch the table are made in two phases, each with a sync of its
    /// own: for keys, tokens and the audit trail. A commit in one phase is told from a torn one by a
    /// checksum that is not cryptographic, so that whoever chooses the data and the moment of a crash
    /// could pass a half of one off as the whole.
    #[must_use]
    pub const fn two_phase(self) -> Table<K, V> {
        Table { two_phase: true, ..self }
    }

    pub(crate) const fn is_two_phase(&self) -> bool {
        self.two_phase
    }

    /// The table's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn encode(&self, key: &[u8], value: &V) -> Result<Vec<u8>, StorageError> {
        let bytes = codec::encode(key, value).map_err(|e| StorageError::corrupt(self.name, e))?;
        let table = self.name;
        if bytes.len() > codec::VALUE_MAX {
            let bytes = bytes.len();
            return Err(StorageError::TooLarge { table, bytes });
        }
        if key.len() > codec::KEY_MAX {
            let bytes = key.len();
            return Err(StorageError::TooLarge { table, bytes });
        }
        Ok(bytes)
    }
}

/// What copies, checks and repairs know of a table, whatever its types.
#[derive(Debug, Clone, Copy)]
pub struct TableInfo {
    /// The table's name.
    pub name: &'static str,
    /// Every key names the tenant that owns the row.
    pub tenant_owned: bool,
    check: Check,
}

/// Checks a row and tells which version of the key it is sealed with.
type Check = fn(&[u8], &[u8]) -> Result<Option<u32>, String>;

impl TableInfo {
    /// Describes `table`.
    pub(crate) const fn of<K: Key, V: Record>(table: &Table<K, V>) -> TableInfo {
        TableInfo { name: table.name, tenant_owned: K::TENANT, check: check::<K, V> }
    }

    /// Whether a row is one of this table: its key decodes, the checksum fits, the value decodes.
    ///
    /// # Errors
    ///
    /// [`StorageError::Corrupt`], which says what does not fit.
    pub fn check(&self, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        self.key_version(key, value).map(drop)
    }

    /// [`check`](Self::check) that also tells the version of the key that opens what is sealed in
    /// the row, if anything is.
    ///
    /// # Errors
    ///
    /// As for [`check`](Self::check).
    pub fn key_version(&self, key: &[u8], value: &[u8]) -> Result<Option<u32>, StorageError> {
        // Damaged bytes may lead a decoder anywhere; a panic is one more way of not fitting.
        let checked = std::panic::catch_unwind(|| (self.check)(key, value));
        let reason = match checked {
            Ok(Ok(version)) => return Ok(version),
            Ok(Err(reason)) => reason,
            Err(payload) => crate::error::panic_message(&*payload),
        };
        Err(StorageError::corrupt(self.name, reason))
    }
}

fn check<K: Key, V: Record>(key: &[u8], value: &[u8]) -> Result<Option<u32>, String> {
    keys::from_bytes::<K>(key).map_err(|error| error.to_string())?;
    let value = codec::decode::<V>(key, value).map_err(|error| error.to_string())?;
    Ok(value.key_version())
}

impl<K, V> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Table").field(&self.name).finish()
    }
}

/// Which rows to visit, and in which order: those in every bound given, upwards unless
/// [`reversed`](Scan::reversed). A bound may be a whole key or the first components of one.
#[derive(Debug, Clone)]
pub struct Scan<K> {
    /// First byte string inside.
    lower: Vec<u8>,
    /// First byte string past the end; `None` is the end of the table.
    upper: Option<Vec<u8>>,
    reversed: bool,
    keys: PhantomData<fn() -> K>,
}

impl<K: Key> Scan<K> {
    /// The whole table.
    #[must_use]
    pub fn all() -> Scan<K> {
        Scan { lower: Vec::new(), upper: None, reversed: false, keys: PhantomData }
    }

    /// The keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: &impl PrefixOf<K>) -> Scan<K> {
        let lower = keys::to_bytes(prefix);
        Scan { upper: keys::after_prefix(lower.clone()), lower, reversed: false, keys: PhantomData }
    }

    /// Not before `key`.
    #[must_use]
    pub fn from(self, key: &impl PrefixOf<K>) -> Scan<K> {
        self.at_least(Some(keys::to_bytes(key)))
    }

    /// Only after `key` and whatever begins with it: where a page that ended in `key` goes on.
    #[must_use]
    pub fn after(self, key: &impl PrefixOf<K>) -> Scan<K> {
        self.at_least(keys::after_prefix(keys::to_bytes(key)))
    }

    /// Only before `key`: where a reversed page that ended in `key` goes on.
    #[must_use]
    pub fn until(self, key: &impl PrefixOf<K>) -> Scan<K> {
        self.below(Some(keys::to_bytes(key)))
    }

    /// Not after `key` and whatever begins with it.
    #[must_use]
    pub fn through(self, key: &impl PrefixOf<K>) -> Scan<K> {
        self.below(keys::after_prefix(keys::to_bytes(key)))
    }

    /// Downwards, from the last key in the bounds to the first.
    #[must_use]
    pub fn reversed(mut self) -> Scan<K> {
        self.reversed = true;
        self
    }

    pub(crate) fn is_reversed(&self) -> bool {
        self.reversed
    }

    /// The bounds as a half-open range, `None` if no key can be in it.
    pub(crate) fn bounds(&self) -> Option<(&[u8], Option<&[u8]>)> {
        let upper = self.upper.as_deref();
        let empty = upper.is_some_and(|upper| upper <= self.lower.as_slice());
        (!empty).then_some((&self.lower, upper))
    }

    /// `None` is beyond every key.
    fn at_least(mut self, lower: Option<Vec<u8>>) -> Scan<K> {
        match lower {
            Some(lower) => self.lower = self.lower.max(lower),
            None => self.upper = Some(Vec::new()),
        }
        self
    }

    /// `None` is beyond every key.
    fn below(mut self, upper: Option<Vec<u8>>) -> Scan<K> {
        self.upper = match (self.upper, upper) {
            (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
            (ours, theirs) => ours.or(theirs),
        };
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pair = (u64, u64);

    fn holds(scan: &Scan<Pair>, key: Pair) -> bool {
        let key = keys::to_bytes(&key);
        scan.bounds().is_some_and(|(lower, upper)| {
            key.as_slice() >= lower && upper.is_none_or(|upper| key.as_slice() < upper)
        })
    }

    #[test]
    fn bounds_narrow_each_other() {
        let scan = Scan::<Pair>::prefix(&2u64);
        assert!(holds(&scan, (2, 0)) && holds(&scan, (2, u64::MAX)));
        assert!(!holds(&scan, (1, u64::MAX)) && !holds(&scan, (3, 0)));

        let page = scan.after(&(2, 5)).until(&(2, 9));
        assert!(holds(&page, (2, 6)) && holds(&page, (2, 8)));
        assert!(!holds(&page, (2, 5)) && !holds(&page, (2, 9)));
        // A wider bound does not widen.
        let page = page.from(&(0, 0)).through(&(9, 9));
        assert!(!holds(&page, (2, 5)) && !holds(&page, (3, 0)));
    }

    #[test]
    fn partial_keys_bound_too() {
        let scan = Scan::<Pair>::all().after(&1u64).through(&3u64);
        assert!(!holds(&scan, (1, u64::MAX)) && holds(&scan, (2, 0)));
        assert!(holds(&scan, (3, u64::MAX)) && !holds(&scan, (4, 0)));
    }

    #[test]
    fn after_the_last_key_is_empty() {
        let last = (u64::MAX, u64::MAX);
        assert_eq!(Scan::<Pair>::all().after(&last).bounds(), None);
        assert!(!holds(&Scan::all().until(&(0, 0)), (0, 0)));
        assert!(holds(&Scan::all().through(&last), last));
    }
}
