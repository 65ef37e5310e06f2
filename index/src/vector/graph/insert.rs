//! Putting rows into a graph.
//!
//! After "Efficient and robust approximate nearest neighbor search using HNSW graphs" (2016),
//! algorithms 1 and 4. The layers of all rows are drawn before the first is put in, so the row to
//! enter by is known and never changes.

use super::distances::Distances;
use super::links::Links;
use super::walk::{Near, Scratch, descend, nearest};

/// Puts rows into a graph, several side by side.
pub(super) struct Inserter<'a> {
    pub(super) links: &'a Links,
    pub(super) distances: &'a Distances,
    pub(super) entry: u32,
    /// Breadth of the walk for links.
    pub(super) breadth: usize,
}

impl Inserter<'_> {
    /// Links a row with what is in the graph already.
    pub(super) fn insert(&self, row: u32, scratch: &mut Scratch) {
        if row == self.entry {
            return;
        }
        let Self { links, distances, entry, breadth } = *self;
        let top = links.top(row);
        let from = distances.of_row(row);
        let mut starts = descend(links, &from, entry, top).to_vec();
        for layer in (0..=top).rev() {
            let mut found = nearest(links, &from, &starts, layer, breadth, scratch);
            // Others may have linked to it since it came in on the layer above.
            found.retain(|near| near.row != row);
            let chosen = self.choose(&found, links.m());
            {
                let _lock = links.lock(row);
                links.set(row, layer, chosen.iter().map(|near| near.row));
            }
            for near in &chosen {
                self.link(near.row, layer, Near { row, ..*near });
            }
            starts = found;
        }
    }

    /// Adds a link to a row, in place of one that is less needed if it has as many as it may.
    fn link(&self, row: u32, layer: u8, to: Near) {
        let Self { links, distances, .. } = *self;
        let room = links.room(layer);
        let _lock = links.lock(row);
        if links.of(row, layer).any(|link| link == to.row) || links.push(row, layer, to.row, room) {
            return;
        }
        let from = distances.of_row(row);
        let near = |link| Near { distance: from.to(link), row: link };
        let mut all: Vec<Near> = links.of(row, layer).map(near).chain([to]).collect();
        all.sort_unstable();
        let chosen = self.choose(&all, room);
        links.set(row, layer, chosen.iter().map(|near| near.row));
    }

    /// At most `n` of some rows, nearest first, that lead in different directions: none that is
    /// nearer to one that was chosen before than to where the links start. Equal rows are chosen
    /// once, so that they do not use up the links.
    fn choose(&self, from: &[Near], n: usize) -> Vec<Near> {
        let mut chosen: Vec<Near> = Vec::with_capacity(n);
        for near in from {
            if chosen.len() == n {
                break;
            }
            let from = self.distances.of_row(near.row);
            let leads_there = |other: &Near| from.to(other.row) <= near.distance;
            if !chosen.iter().any(leads_there) {
                chosen.push(*near);
            }
        }
        chosen
    }
}
