//! Where things are in the file: the header, the commit slots, the pages.

/// As much of the file as the header and the commit slots take.
pub(super) const HEAD_BYTES: usize = 320;

const PRIMARY_AT: usize = 9;
const PAGE_BYTES_AT: usize = 12;
const SLOTS_AT: [usize; 2] = [64, 192];

/// The format described in [`super`].
const VERSION: u8 = 3;

/// The pages of every store's file.
const PAGE_BYTES: u32 = 4096;

/// Pages of a region that are not for rows, and those that are.
const REGION_HEADER_PAGES: u32 = 0;
const REGION_PAGES: u32 = 1 << 20;

/// How pages are numbered. It never changes in the life of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    page_bytes: u64,
    region_header_pages: u64,
    region_pages: u64,
}

impl Geometry {
    /// What the header says, or, where that cannot be, what every file made here says.
    pub(super) fn of(head: &[u8; HEAD_BYTES]) -> Geometry {
        let number = |at| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let said = [number(PAGE_BYTES_AT), number(PAGE_BYTES_AT + 4), number(PAGE_BYTES_AT + 8)];
        let usual = [PAGE_BYTES, REGION_HEADER_PAGES, REGION_PAGES];
        let sane = said[0] == PAGE_BYTES
            && said[1] <= REGION_PAGES
            && (1..=REGION_PAGES).contains(&said[2]);
        let [page_bytes, header, pages] = if sane { said } else { usual };
        Geometry {
            page_bytes: page_bytes.into(),
            region_header_pages: header.into(),
            region_pages: pages.into(),
        }
    }

    /// Offset and length of a page in bytes; `None` if its number makes no sense.
    pub(super) fn address(&self, page: PageNumber) -> Option<(u64, u64)> {
        let size = self.page_bytes.checked_shl(page.order.into())?;
        let region = (self.region_header_pages + self.region_pages) * self.page_bytes;
        let inside = u64::from(page.index).checked_mul(size)?;
        if size == 0 || inside.checked_add(size)? > self.region_pages * self.page_bytes {
            return None;
        }
        // The first page of the file is the header.
        let before = self.page_bytes
            + u64::from(page.region).checked_mul(region)?
            + self.region_header_pages * self.page_bytes;
        Some((before.checked_add(inside)?, size))
    }
}

/// A page's name: the region, its number there counted in pages of its own length, and that length
/// as a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PageNumber {
    region: u32,
    index: u32,
    order: u8,
}

impl PageNumber {
    pub(super) const BYTES: usize = 8;

    pub(super) fn from_bytes(bytes: [u8; 8]) -> PageNumber {
        let number = u64::from_le_bytes(bytes);
        let order = (number >> 59) as u8;
        PageNumber {
            region: ((number >> 20) & 0xF_FFFF) as u32,
            index: (number & (0xF_FFFF >> order)) as u32,
            order,
        }
    }
}

/// A commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// The tree of tables; `None` if there is none.
    pub(super) root: Option<PageNumber>,
}

impl Slot {
    /// The commits of a file, the newer one first, as far as they are of a known format.
    pub(super) fn both(head: &[u8; HEAD_BYTES]) -> Vec<Slot> {
        let newer = usize::from(head[PRIMARY_AT] & 1);
        let order = [SLOTS_AT[newer], SLOTS_AT[1 - newer]];
        // A damaged version byte is worse than a damaged format: neither is turned away first.
        let known = |at: &&usize| head[**at] == VERSION;
        let sorted = order.iter().filter(known).chain(order.iter().filter(|at| !known(at)));
        sorted
            .map(|at| {
                let mut root = [0; PageNumber::BYTES];
                root.copy_from_slice(&head[at + 8..at + 8 + PageNumber::BYTES]);
                Slot { root: (head[at + 1] != 0).then(|| PageNumber::from_bytes(root)) }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layer below may not change what is known here of its files without being noticed.
    #[test]
    fn a_new_file_has_the_usual_geometry() {
        let file = tempfile::NamedTempFile::new().unwrap();
        drop(redb::Database::create(file.path()).unwrap());
        let bytes = std::fs::read(file.path()).unwrap();
        let head: [u8; HEAD_BYTES] = bytes[..HEAD_BYTES].try_into().unwrap();
        let mut nonsense = head;
        nonsense[PAGE_BYTES_AT] ^= 0xFF;
        assert_eq!(Geometry::of(&head), Geometry::of(&nonsense));
        assert_eq!([head[SLOTS_AT[0]], head[SLOTS_AT[1]]], [VERSION, VERSION]);
    }

    #[test]
    fn numbers_that_make_no_sense_have_no_address() {
        let file = Geometry { page_bytes: 4096, region_header_pages: 0, region_pages: 1 << 20 };
        let page = |region, index, order| PageNumber { region, index, order };
        assert_eq!(file.address(page(0, 0, 0)), Some((4096, 4096)));
        assert_eq!(file.address(page(0, 3, 2)), Some((4096 + 3 * 16384, 16384)));
        assert_eq!(file.address(page(1, 0, 0)), Some((4096 + (1 << 32), 4096)));
        assert_eq!(file.address(page(0, 1, 20)), None);
        assert_eq!(file.address(page(0, 0, 31)), None);
    }
}
