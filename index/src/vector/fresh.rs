//! The mutable part of a set: rows that are not in a sealed segment yet, always scanned.
//!
//! A value of [`Fresh`] is a snapshot. A change makes a new one that shares all full chunks with
//! the old, so searches never wait and never see half a batch.

use std::collections::HashMap;
use std::sync::Arc;

use super::segment::Row;
use crate::IdSet;

/// Rows in a chunk; the live ones are one word of bits. Small, because a change copies the last.
const CHUNK_ROWS: usize = 64;

#[derive(Debug, Clone, Default)]
pub(super) struct Fresh {
    chunks: Vec<Chunk>,
    tenants: Arc<Tenants>,
    live: usize,
}

#[derive(Debug, Clone)]
struct Chunk {
    rows: Arc<Rows>,
    live: u64,
}

#[derive(Debug, Clone, Default)]
struct Rows {
    ids: Vec<u128>,
    tenants: Vec<u32>,
    values: Vec<f32>,
}

#[derive(Debug, Clone, Default)]
struct Tenants {
    names: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Fresh {
    /// Adds a row and gives its number.
    pub(super) fn push(&mut self, id: u128, tenant: &str, values: &[f32]) -> u32 {
        let tenant = self.tenant_number(tenant);
        if self.chunks.last().is_none_or(|chunk| chunk.rows.ids.len() == CHUNK_ROWS) {
            self.chunks.push(Chunk { rows: Arc::default(), live: 0 });
        }
        let number = self.chunks.len() - 1;
        let chunk = &mut self.chunks[number];
        let rows = Arc::make_mut(&mut chunk.rows);
        let place = rows.ids.len();
        rows.ids.push(id);
        rows.tenants.push(tenant);
        rows.values.extend_from_slice(values);
        chunk.live |= 1 << place;
        self.live += 1;
        (number * CHUNK_ROWS + place) as u32
    }

    fn tenant_number(&mut self, tenant: &str) -> u32 {
        if let Some(&number) = self.tenants.numbers.get(tenant) {
            return number;
        }
        let tenants = Arc::make_mut(&mut self.tenants);
        let number = tenants.names.len() as u32;
        tenants.names.push(tenant.to_owned());
        tenants.numbers.insert(tenant.to_owned(), number);
        number
    }

    /// Takes a live row out.
    pub(super) fn remove(&mut self, row: u32) {
        let chunk = &mut self.chunks[row as usize / CHUNK_ROWS];
        chunk.live &= !(1 << (row as usize % CHUNK_ROWS));
        self.live -= 1;
    }

    /// The number of live rows.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// The number of rows that take up room, dead ones too.
    pub(super) fn rows(&self) -> usize {
        self.chunks.len() * CHUNK_ROWS
    }

    pub(super) fn bytes(&self) -> usize {
        let rows = |chunk: &Chunk| {
            chunk.rows.ids.capacity() * 16
                + chunk.rows.tenants.capacity() * 4
                + chunk.rows.values.capacity() * 4
        };
        self.chunks.iter().map(rows).sum()
    }

    /// The live rows.
    pub(super) fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.numbered().map(|(tenant, id, values)| Row {
            tenant: &self.tenants.names[tenant as usize],
            id,
            values,
        })
    }

    /// The vector of a live row.
    pub(super) fn find(&self, id: u128) -> Option<&[f32]> {
        self.numbered().find(|row| row.1 == id).map(|row| row.2)
    }

    /// Hands every live row of the tenants that is `among` the allowed to `each`.
    pub(super) fn scan(
        &self,
        tenants: &[&str],
        among: Option<&IdSet>,
        mut each: impl FnMut(u128, &[f32]),
    ) {
        let wanted: Vec<u32> = tenants
            .iter()
            .filter_map(|&tenant| self.tenants.numbers.get(tenant).copied())
            .collect();
        if wanted.is_empty() {
            return;
        }
        for (tenant, id, values) in self.numbered() {
            if wanted.contains(&tenant) && among.is_none_or(|among| among.contains(id)) {
                each(id, values);
            }
        }
    }

    fn numbered(&self) -> impl Iterator<Item = (u32, u128, &[f32])> {
        self.chunks.iter().flat_map(|Chunk { rows, live }| {
            let dim = rows.values.len() / rows.ids.len().max(1);
            let places = (0..rows.ids.len()).filter(move |place| live >> place & 1 == 1);
            places.map(move |place| {
                let values = &rows.values[place * dim..][..dim];
                (rows.tenants[place], rows.ids[place], values)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_does_not_change() {
        let mut fresh = Fresh::default();
        let rows: Vec<u32> = (0..100).map(|id| fresh.push(id, "a", &[id as f32])).collect();
        let before = fresh.clone();
        fresh.remove(rows[3]);
        fresh.push(100, "b", &[7.0]);
        assert_eq!((before.live(), fresh.live()), (100, 100));
        assert!(before.find(3).is_some() && before.find(100).is_none());
        assert!(fresh.find(3).is_none() && fresh.find(100) == Some(&[7.0]));
        let mut seen = Vec::new();
        fresh.scan(&["b", "c"], None, |id, _| seen.push(id));
        assert_eq!(seen, [100]);
    }
}
