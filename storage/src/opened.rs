//! The tables a transaction has open.

use std::sync::OnceLock;

/// The tables a transaction has opened, kept because opening one costs more than a look-up in it.
///
/// A chain that only grows, so that tables can be handed out while more are added. Its length is
/// the number of tables the transaction touches.
pub(crate) struct Opened<T> {
    first: OnceLock<Box<Link<T>>>,
}

struct Link<T> {
    name: &'static str,
    table: T,
    next: OnceLock<Box<Link<T>>>,
}

impl<T> Default for Opened<T> {
    fn default() -> Opened<T> {
        Opened { first: OnceLock::new() }
    }
}

impl<T> Opened<T> {
    /// The table `name`, opened if it is not yet; `None` is not remembered.
    pub(crate) fn get_or_open<E>(
        &self,
        name: &'static str,
        open: impl FnOnce() -> Result<Option<T>, E>,
    ) -> Result<Option<&T>, E> {
        let mut slot = &self.first;
        while let Some(link) = slot.get() {
            if link.name == name {
                return Ok(Some(&link.table));
            }
            slot = &link.next;
        }
        let Some(table) = open()? else {
            return Ok(None);
        };
        let mut added = Box::new(Link { name, table, next: OnceLock::new() });
        // Another thread may have added a link here meanwhile; ours then goes behind it.
        while let Err(back) = slot.set(added) {
            added = back;
            match slot.get() {
                Some(link) => slot = &link.next,
                None => break,
            }
        }
        Ok(slot.get().map(|link| &link.table))
    }

    /// The table `name`, if it is open.
    pub(crate) fn get_mut(&mut self, name: &'static str) -> Option<&mut T> {
        let mut slot = &mut self.first;
        loop {
            let link = slot.get_mut()?;
            if link.name == name {
                return Some(&mut link.table);
            }
            slot = &mut link.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_opened_once() {
        let mut opened = Opened::<u32>::default();
        for (name, number) in [("a", 1), ("b", 2), ("c", 3)] {
            let open = || Ok::<_, ()>(Some(number));
            assert_eq!(opened.get_or_open(name, open), Ok(Some(&number)));
        }
        let again = opened.get_or_open("b", || Err("opened twice"));
        assert_eq!(again, Ok(Some(&2)));
        assert_eq!(opened.get_or_open("d", || Ok::<_, ()>(None)), Ok(None));
        assert_eq!(opened.get_mut("c"), Some(&mut 3));
        assert_eq!(opened.get_mut("d"), None);
    }
}
