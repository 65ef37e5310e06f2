//! What is on a page: rows, or children and the keys between them.

use std::ops::Range;

use super::Judge;
use super::layout::PageNumber;

/// First byte of a page with children. Pages with rows begin with 1.
pub(super) const BRANCH: u8 = 2;

const CHECKSUM: usize = 16;

/// A page with rows: how many, in bytes 2 and 3; then where each key ends, where each value ends,
/// counted from the start of the page; then the keys, then the values.
pub(super) struct Leaf<'a> {
    bytes: &'a [u8],
    rows: Vec<(Range<usize>, Range<usize>)>,
    /// Rows said to be there that do not lie on the page.
    pub(super) n_broken: usize,
}

impl<'a> Leaf<'a> {
    const ENDS_AT: usize = 4;

    /// `None` if the page cannot be one with rows.
    pub(super) fn of(bytes: &'a [u8], judge: &Judge<'_>) -> Option<Leaf<'a>> {
        let said = Leaf::with(bytes, count(bytes));
        if said.as_ref().is_some_and(|leaf| leaf.any_is(judge)) {
            return said;
        }
        // The number of rows itself may be what is damaged: the one that makes sense of most.
        let most = bytes.len() / 8;
        // The end of the first key rules out nearly all others at once.
        let sane = |n: &usize| {
            let start = Leaf::ENDS_AT + 8 * n;
            start < bytes.len() && (start..=bytes.len()).contains(&number(bytes, Leaf::ENDS_AT))
        };
        let candidates = (1..most).filter(sane).filter_map(|n| Leaf::with(bytes, n));
        let whole = candidates.filter(|leaf| leaf.n_broken == 0 && leaf.any_is(judge));
        whole
            .max_by_key(|leaf| leaf.rows.len())
            .or(said.filter(|leaf| leaf.bytes[0] == 1 && leaf.n_broken == 0))
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.rows.iter().map(|(key, value)| (&self.bytes[key.clone()], &self.bytes[value.clone()]))
    }

    fn any_is(&self, judge: &Judge<'_>) -> bool {
        self.rows().any(|(key, value)| judge(key, value))
    }

    /// The page if it had `n` rows.
    fn with(bytes: &'a [u8], n: usize) -> Option<Leaf<'a>> {
        let start = Leaf::ENDS_AT + 8 * n;
        if n == 0 || start > bytes.len() {
            return None;
        }
        let key_end = |row| number(bytes, Leaf::ENDS_AT + 4 * row);
        let value_end = |row| number(bytes, Leaf::ENDS_AT + 4 * (n + row));
        let mut rows = Vec::with_capacity(n);
        for row in 0..n {
            let key = if row == 0 { start } else { key_end(row - 1) }..key_end(row);
            let value = if row == 0 { key_end(n - 1) } else { value_end(row - 1) }..value_end(row);
            let on_page = |range: &Range<usize>| {
                start <= range.start && range.start <= range.end && range.end <= bytes.len()
            };
            if on_page(&key) && on_page(&value) {
                rows.push((key, value));
            }
        }
        let n_broken = n - rows.len();
        Some(Leaf { bytes, rows, n_broken })
    }
}

/// A page with children: how many keys are between them, in bytes 2 and 3; from byte 8 the
/// children's checksums, their numbers, where each key ends; then the keys.
pub(super) struct Branch<'a> {
    pub(super) children: Vec<PageNumber>,
    /// What is between each two of them, if it lies on the page.
    pub(super) keys: Vec<Option<&'a [u8]>>,
}

impl<'a> Branch<'a> {
    const CHECKSUMS_AT: usize = 8;

    /// `None` if the page cannot be one with children. `fits` says whether a child's number can be
    /// one.
    pub(super) fn of(bytes: &'a [u8], fits: &dyn Fn(PageNumber) -> bool) -> Option<Branch<'a>> {
        let sense =
            |branch: &Branch<'_>| branch.children.iter().filter(|page| fits(**page)).count();
        let good = |branch: &Branch<'_>| 2 * sense(branch) > branch.children.len();
        let said = Branch::with(bytes, count(bytes)).filter(good);
        if said.is_some() {
            return said;
        }
        let most = bytes.len() / (CHECKSUM + PageNumber::BYTES + 4);
        let all = |branch: &Branch<'_>| {
            sense(branch) == branch.children.len() && branch.keys.iter().all(Option::is_some)
        };
        (1..=most).filter_map(|n| Branch::with(bytes, n)).find(all)
    }

    /// The page if it had `n` keys.
    fn with(bytes: &'a [u8], n: usize) -> Option<Branch<'a>> {
        let pages_at = Branch::CHECKSUMS_AT + CHECKSUM * (n + 1);
        let ends_at = pages_at + PageNumber::BYTES * (n + 1);
        let start = ends_at + 4 * n;
        if n == 0 || start > bytes.len() {
            return None;
        }
        let (pages, _) = bytes[pages_at..ends_at].as_chunks::<8>();
        let end = |key| number(bytes, ends_at + 4 * key);
        let keys = (0..n).map(|key| {
            let from = if key == 0 { start } else { end(key - 1) };
            (start <= from && from <= end(key)).then(|| bytes.get(from..end(key))).flatten()
        });
        Some(Branch {
            children: pages.iter().map(|page| PageNumber::from_bytes(*page)).collect(),
            keys: keys.collect(),
        })
    }
}

/// How many rows or keys the page says it has.
fn count(bytes: &[u8]) -> usize {
    usize::from(u16::from_le_bytes([bytes[2], bytes[3]]))
}

/// Four bytes at an offset the caller knows to be on the page.
fn number(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
}
