//! Making every row of a graph reachable.
//!
//! Links are one-way: a row that has too many drops some, and may have been the only one that led
//! to another. A search never finds such a row, however near it is.

use super::distances::Distances;
use super::links::Links;
use super::walk::{Near, Scratch, descend, nearest};

/// Rows that are near a lost one, to look for one that can lead to it.
const WIDTH: usize = 64;

/// Leads to every row on the lowest layer, from rows near it; the number of rows that were lost.
pub(super) fn mend(
    links: &Links,
    distances: &Distances,
    entry: u32,
    scratch: &mut Scratch,
) -> usize {
    let mut reached = vec![false; links.rows()];
    if reached.is_empty() {
        return 0;
    }
    reach(links, entry, &mut reached);
    let (mut lost, mut last) = (0, entry);
    for row in 0..links.rows() as u32 {
        if reached[row as usize] {
            continue;
        }
        lost += 1;
        let from = distances.of_row(row);
        let starts = descend(links, &from, entry, 0);
        let found = nearest(links, &from, &starts, 0, WIDTH, scratch);
        // What leads to it must be found itself. `last` has been led to, and leads nowhere else yet
        // if nothing near does.
        let leads = found.iter().map(|near: &Near| near.row).filter(|&near| reached[near as usize]);
        let led = leads.chain([last]).any(|near| links.push_spare(near, row));
        debug_assert!(led, "a row that was just led to has places left");
        reach(links, row, &mut reached);
        last = row;
    }
    lost
}

/// Marks a row and what can be reached from it.
fn reach(links: &Links, from: u32, reached: &mut [bool]) {
    let mut open = vec![from];
    while let Some(row) = open.pop() {
        if !std::mem::replace(&mut reached[row as usize], true) {
            open.extend(links.of(row, 0).filter(|&to| !reached[to as usize]));
        }
    }
}
