//! The links of a graph: for every row a list on the lowest layer, and one more on each layer up to
//! the highest it is on.
//!
//! Lists have a fixed number of places and lie one after another. They are atomics so that rows can
//! be inserted side by side: who reads a list while it is changed may see some of the old links and
//! some of the new ones, and both lead somewhere. Who changes a list holds the row's lock.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// No row is on a layer above this one.
const TOP_MAX: u8 = 15;
/// Places of the lowest layer that only [`super::mend`] fills.
pub(super) const SPARE: usize = 3;
/// Locks; rows share them.
const LOCKS: usize = 1024;

/// The links of all rows.
pub(super) struct Links {
    m: usize,
    /// By row: the number of links, then the links.
    lowest: Vec<AtomicU32>,
    /// The same for the layers above, of the rows that are on any, layer by layer.
    upper: Vec<AtomicU32>,
    /// By row: where its lists start in `upper`, in lists, and the end of the last.
    starts: Vec<u32>,
    locks: Vec<Mutex<()>>,
}

impl Links {
    /// No links yet, for so many rows, each on the layers that chance gives it: always the same.
    pub(super) fn new(rows: usize, m: usize) -> Self {
        let mut starts = Vec::with_capacity(rows + 1);
        let mut start = 0;
        for row in 0..rows as u32 {
            starts.push(start);
            start += u32::from(drawn_top(row, m));
        }
        starts.push(start);
        let zeros = |n: usize| (0..n).map(|_| AtomicU32::new(0)).collect();
        Self {
            m,
            lowest: zeros(rows * (1 + 2 * m + SPARE)),
            upper: zeros(start as usize * (1 + m)),
            starts,
            locks: (0..LOCKS.min(rows)).map(|_| Mutex::default()).collect(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Links of a row on an upper layer, at most.
    pub(super) fn m(&self) -> usize {
        self.m
    }

    /// The highest layer that a row is on.
    pub(super) fn top(&self, row: u32) -> u8 {
        let row = row as usize;
        (self.starts[row + 1] - self.starts[row]) as u8
    }

    /// The row on the highest layer, the first of them; 0 if there are no rows.
    pub(super) fn entry(&self) -> u32 {
        let rows = 0..self.rows() as u32;
        rows.rev().max_by_key(|&row| self.top(row)).unwrap_or(0)
    }

    /// Links that a list of this layer holds before it is pruned.
    pub(super) fn room(&self, layer: u8) -> usize {
        if layer == 0 { 2 * self.m } else { self.m }
    }

    /// The places of a row on a layer that it is on, the first of them for their number.
    fn places(&self, row: u32, layer: u8) -> &[AtomicU32] {
        if layer == 0 {
            let each = 1 + 2 * self.m + SPARE;
            &self.lowest[row as usize * each..][..each]
        } else {
            let list = self.starts[row as usize] as usize + usize::from(layer) - 1;
            let each = 1 + self.m;
            &self.upper[list * each..][..each]
        }
    }

    /// The rows that a row leads to on a layer that it is on.
    pub(super) fn of(&self, row: u32, layer: u8) -> impl Iterator<Item = u32> {
        let (number, links) = self.places(row, layer).split_first().unwrap_or_else(|| {
            unreachable!("every list has a place for its number");
        });
        let number = number.load(Ordering::Acquire) as usize;
        links.iter().take(number).map(|link| link.load(Ordering::Relaxed))
    }

    /// The right to change the lists of a row. Nobody may hold two.
    pub(super) fn lock(&self, row: u32) -> MutexGuard<'_, ()> {
        // Nothing is behind the lock that a panic could leave half done.
        self.locks[row as usize % LOCKS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the links of a row, whose lock is held.
    pub(super) fn set(&self, row: u32, layer: u8, links: impl Iterator<Item = u32>) {
        let places = self.places(row, layer);
        let mut n = 0;
        for (place, link) in places[1..].iter().zip(links) {
            place.store(link, Ordering::Relaxed);
            n += 1;
        }
        places[0].store(n, Ordering::Release);
    }

    /// Adds a link to a row, whose lock is held; false if `room` are there already.
    pub(super) fn push(&self, row: u32, layer: u8, link: u32, room: usize) -> bool {
        let places = self.places(row, layer);
        let n = places[0].load(Ordering::Relaxed) as usize;
        if n >= room.min(places.len() - 1) {
            return false;
        }
        places[n + 1].store(link, Ordering::Relaxed);
        places[0].store(n as u32 + 1, Ordering::Release);
        true
    }

    /// Adds a link on the lowest layer where only mending may; false if those places are full.
    pub(super) fn push_spare(&self, row: u32, link: u32) -> bool {
        let _lock = self.lock(row);
        self.push(row, 0, link, self.room(0) + SPARE)
    }

    /// Memory in use.
    pub(super) fn bytes(&self) -> usize {
        (self.lowest.len() + self.upper.len() + self.starts.len()) * 4
    }

    /// Everything in order as words: the lowest layer, then the others.
    pub(super) fn words(&self) -> impl Iterator<Item = u32> {
        self.lowest.iter().chain(&self.upper).map(|word| word.load(Ordering::Relaxed))
    }

    /// What [`Links::words`] gave for so many rows; `None` if it is not, or leads nowhere.
    pub(super) fn from_words(rows: usize, m: usize, words: &[[u8; 4]]) -> Option<Self> {
        let this = Self::new(rows, m);
        if words.len() != this.lowest.len() + this.upper.len() {
            return None;
        }
        for (place, word) in this.lowest.iter().chain(&this.upper).zip(words) {
            place.store(u32::from_le_bytes(*word), Ordering::Relaxed);
        }
        let leads = |row: u32, layer: u8| {
            let places = this.places(row, layer);
            (places[0].load(Ordering::Relaxed) as usize) < places.len()
                && this.of(row, layer).all(|to| (to as usize) < rows && this.top(to) >= layer)
        };
        let sound = (0..rows as u32).all(|row| (0..=this.top(row)).all(|layer| leads(row, layer)));
        sound.then_some(this)
    }
}

/// The highest layer of a row: each is on the next with a chance of one in `m`, as in "Efficient
/// and robust approximate nearest neighbor search using HNSW graphs" (2016), section 4.
fn drawn_top(row: u32, m: usize) -> u8 {
    let mut top = 0;
    let mut draw = scattered(u64::from(row) + 1);
    while top < TOP_MAX && draw.is_multiple_of(m as u64) {
        top += 1;
        draw = scattered(draw);
    }
    top
}

/// The finaliser of SplitMix64 ("Fast splittable pseudorandom number generators", OOPSLA 2014): every
/// bit of the number changes half of the bits of the answer.
fn scattered(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_in_m_is_on_the_next_layer() {
        for m in [2, 4, 16] {
            let links = Links::new(100_000, m);
            let on = |layer| (0..100_000).filter(|&row| links.top(row) >= layer).count();
            for layer in 1..=3 {
                let (below, here) = (on(layer - 1) as f64, on(layer) as f64);
                let spread = 5.0 * (below / m as f64).sqrt();
                assert!((here - below / m as f64).abs() <= spread, "{m}, {layer}: {here}");
            }
        }
    }

    #[test]
    fn lists_keep_apart_and_hold_what_they_have_room_for() {
        let rows = 300;
        let links = Links::new(rows, 2);
        assert!(links.top(links.entry()) > 0, "one of them is up there");
        let all = || (0..rows as u32).flat_map(|r| (0..=links.top(r)).map(move |l| (r, l)));
        for (row, layer) in all() {
            let room = links.room(layer);
            for link in 0..room as u32 {
                assert!(links.push(row, layer, (row + link) % 7, room));
            }
            assert!(!links.push(row, layer, 0, room), "full");
        }
        for (row, layer) in all() {
            let want: Vec<u32> =
                (0..links.room(layer) as u32).map(|link| (row + link) % 7).collect();
            assert_eq!(links.of(row, layer).collect::<Vec<_>>(), want);
        }
        for _ in 0..SPARE {
            assert!(links.push_spare(5, 6));
        }
        assert!(!links.push_spare(5, 6));
        links.set(5, 0, [9, 8].into_iter());
        assert_eq!(links.of(5, 0).collect::<Vec<_>>(), [9, 8]);
    }

    #[test]
    fn words_that_lead_nowhere_are_refused() {
        let links = Links::new(50, 3);
        for row in 0..50 {
            links.set(row, 0, [(row + 1) % 50, (row + 7) % 50].into_iter());
        }
        let words: Vec<[u8; 4]> = links.words().map(u32::to_le_bytes).collect();
        let again = Links::from_words(50, 3, &words).unwrap();
        assert!(again.words().eq(links.words()));
        assert!(Links::from_words(50, 3, &words[1..]).is_none());
        assert!(Links::from_words(51, 3, &words).is_none());
        let with = |at: usize, word: u32| {
            let mut words = words.clone();
            words[at] = word.to_le_bytes();
            Links::from_words(50, 3, &words)
        };
        assert!(with(0, 1 + 2 * 3 + SPARE as u32).is_none(), "more links than places");
        assert!(with(1, 50).is_none(), "no such row");
        assert!(with(1, 49).is_some());
    }
}
