//! Reading a store's file page by page, around the pages that are damaged.
//!
//! The layer below stops at the first page it cannot read, and opens no file whose pages do not add
//! up. Here only as much of its file format is known as it takes to get at rows: where the roots
//! are, how a page of rows and a page of children are laid out, where a page is in the file. Nothing
//! read here is believed: each row carries its own checksum.
//!
//! The format, version 3: a page of 4096 bytes with the two latest commits, then regions of pages.
//! The commit slots are at bytes 64 and 192, and bit 0 of byte 9 says which is the newer. Each leads
//! to a tree of tables, and each of those to a tree of rows. A page with children also holds a key
//! between each two, at least as great as any before it.

mod layout;
mod node;

use redb::StorageBackend;

use layout::{Geometry, PageNumber, Slot};
use node::{Branch, Leaf};

/// Levels of a tree. A real one has a handful; a ring of damaged pages has no end.
const DEPTH_MAX: usize = 32;

/// Largest page that is read, in bytes: the largest value, its key, and what rounding up adds.
const PAGE_MAX: u64 = 256 << 20;

/// What comes by on a walk through a table.
pub(crate) enum Piece<'a> {
    /// A row. It may be nonsense; it may also be a good one that does not belong here.
    Row {
        key: &'a [u8],
        value: &'a [u8],
        /// Its key lies where the pages above say.
        in_place: bool,
    },
    /// Rows that cannot be read: those with keys after the one and up to the other, where known.
    Gap { after: Option<&'a [u8]>, through: Option<&'a [u8]>, reason: &'a str },
}

/// A table as the file lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// Rows it is said to have.
    pub(crate) rows: u64,
    root: Option<PageNumber>,
}

/// Tells whether bytes are a row, so that a page whose header is damaged can be made out.
pub(crate) type Judge<'a> = dyn Fn(&[u8], &[u8]) -> bool + 'a;

/// A store's file, to be read page by page.
pub(crate) struct PageReader<B> {
    medium: B,
    geometry: Geometry,
    len: u64,
    /// The newer commit first.
    slots: Vec<Slot>,
}

impl<B: StorageBackend> PageReader<B> {
    /// # Errors
    ///
    /// The disk is at fault, or the file is too short to hold anything.
    pub(crate) fn new(medium: B) -> std::io::Result<PageReader<B>> {
        let len = medium.len()?;
        let mut head = [0; layout::HEAD_BYTES];
        medium.read(0, &mut head)?;
        let geometry = Geometry::of(&head);
        let slots = Slot::both(&head);
        Ok(PageReader { medium, geometry, len, slots })
    }

    /// The tables of the newest commit whose list of them can be read; in the older commit they
    /// can be older, but never by more than one.
    pub(crate) fn tables(&self) -> Vec<Listed> {
        for slot in &self.slots {
            let mut tables = Vec::new();
            let Some(root) = slot.root else { continue };
            let judge = |name: &[u8], entry: &[u8]| listed(name, entry).is_some();
            self.walk(root, &judge, &mut |piece| {
                if let Piece::Row { key, value, .. } = piece {
                    tables.extend(listed(key, value));
                }
            });
            if !tables.is_empty() {
                return tables;
            }
        }
        Vec::new()
    }

    /// Goes through the rows of a table in the order of their keys.
    pub(crate) fn rows(&self, table: &Listed, judge: &Judge<'_>, visit: &mut dyn FnMut(Piece<'_>)) {
        if let Some(root) = table.root {
            self.walk(root, judge, visit);
        }
    }

    fn walk(&self, root: PageNumber, judge: &Judge<'_>, visit: &mut dyn FnMut(Piece<'_>)) {
        let place = Place { page: root, after: None, through: None, depth: 0 };
        let mut todo = vec![place];
        // Every page is looked at once, which also ends rings.
        let mut seen = std::collections::HashSet::new();
        while let Some(place) = todo.pop() {
            let gap = |reason: &str, visit: &mut dyn FnMut(Piece<'_>)| {
                let (after, through) = (place.after.as_deref(), place.through.as_deref());
                visit(Piece::Gap { after, through, reason });
            };
            if !seen.insert(place.page) || place.depth > DEPTH_MAX {
                gap("a page is referred to twice", visit);
                continue;
            }
            let bytes = match self.page(place.page) {
                Ok(bytes) => bytes,
                Err(reason) => {
                    gap(&reason, visit);
                    continue;
                }
            };
            match self.made_out(&bytes, judge) {
                Some(Page::Leaf(leaf)) => {
                    for (key, value) in leaf.rows() {
                        let in_place = place.admits(key);
                        visit(Piece::Row { key, value, in_place });
                    }
                    if leaf.n_broken > 0 {
                        gap(&format!("{} rows of a page are cut off", leaf.n_broken), visit);
                    }
                }
                Some(Page::Branch(branch)) => todo.extend(place.children(&branch)),
                None => gap("a page is neither rows nor children", visit),
            }
        }
    }

    /// What a page is: what its first byte says if that makes sense, else what does.
    fn made_out<'a>(&self, bytes: &'a [u8], judge: &Judge<'_>) -> Option<Page<'a>> {
        let leaf = || Leaf::of(bytes, judge).map(Page::Leaf);
        let fits = |page: PageNumber| self.address(page).is_some();
        let branch = || Branch::of(bytes, &fits).map(Page::Branch);
        if bytes[0] == node::BRANCH { branch().or_else(leaf) } else { leaf().or_else(branch) }
    }

    fn page(&self, page: PageNumber) -> Result<Vec<u8>, String> {
        let (offset, size) =
            self.address(page).ok_or_else(|| "a page lies outside the file".to_owned())?;
        let size = usize::try_from(size).map_err(|error| error.to_string())?;
        let mut bytes = vec![0; size];
        self.medium.read(offset, &mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    /// Where a page is in the file, and how long it is; `None` if it is not.
    fn address(&self, page: PageNumber) -> Option<(u64, u64)> {
        let (offset, size) = self.geometry.address(page)?;
        (size <= PAGE_MAX && offset.checked_add(size)? <= self.len).then_some((offset, size))
    }
}

enum Page<'a> {
    Leaf(Leaf<'a>),
    Branch(Branch<'a>),
}

/// A page to be looked at, and the keys it can hold.
struct Place {
    page: PageNumber,
    after: Option<Vec<u8>>,
    through: Option<Vec<u8>>,
    depth: usize,
}

impl Place {
    fn admits(&self, key: &[u8]) -> bool {
        self.after.as_deref().is_none_or(|after| key > after)
            && self.through.as_deref().is_none_or(|through| key <= through)
    }

    /// The pages below, the one with the least keys last.
    fn children(&self, branch: &Branch<'_>) -> Vec<Place> {
        let mut after = self.after.clone();
        let mut places = Vec::with_capacity(branch.children.len());
        for (n, page) in branch.children.iter().enumerate() {
            // A key that is not between its neighbours bounds nothing.
            let key = branch.keys.get(n).copied().flatten().filter(|key| self.admits(key));
            let key = key.filter(|key| after.as_deref().is_none_or(|after| *key > after));
            let last = n + 1 == branch.children.len();
            let through = key.map(<[u8]>::to_vec).or_else(|| {
                let next =
                    branch.keys.iter().skip(n + 1).copied().flatten().find(|key| self.admits(key));
                if last {
                    self.through.clone()
                } else {
                    next.map(<[u8]>::to_vec).or_else(|| self.through.clone())
                }
            });
            places.push(Place {
                page: *page,
                after: after.clone(),
                through,
                depth: self.depth + 1,
            });
            if let Some(key) = key {
                after = Some(key.to_vec());
            }
        }
        places.reverse();
        places
    }
}

/// An entry of the list of tables: a byte for its kind, how many rows, whether there is a root, the
/// root.
fn listed(name: &[u8], entry: &[u8]) -> Option<Listed> {
    const NORMAL: u8 = 3;
    let name = std::str::from_utf8(name).ok()?;
    let (&[kind], rest) = entry.split_first_chunk::<1>()?;
    let (rows, rest) = rest.split_first_chunk::<8>()?;
    let (&[has_root], rest) = rest.split_first_chunk::<1>()?;
    let (root, _) = rest.split_first_chunk::<8>()?;
    if kind != NORMAL || has_root > 1 || name.is_empty() {
        return None;
    }
    let root = (has_root == 1).then(|| PageNumber::from_bytes(*root));
    Some(Listed { name: name.to_owned(), rows: u64::from_le_bytes(*rows), root })
}

#[cfg(test)]
mod tests;
