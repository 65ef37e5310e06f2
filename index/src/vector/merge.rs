//! Background work on sealed segments: making few large ones of many small ones.
//!
//! Segments are immutable, so all of it reads and writes files without holding the writer, and
//! only the exchange at the end takes the lock.

use std::sync::Arc;

use super::VectorSet;
use super::view::{Sealed, View};
use super::writer::{Writer, write_segment};
use crate::IndexError;

/// This many small segments become one.
const MERGE_SEGMENTS: usize = 4;

/// Segments that one piece of work reads; others leave them alone until it is dropped.
pub(super) struct Work<'a> {
    set: &'a VectorSet,
    pub(super) inputs: Vec<Sealed>,
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        let mut writer = self.set.lock();
        for input in &self.inputs {
            writer.busy.remove(&input.file);
        }
    }
}

impl VectorSet {
    /// Merges small or hollow segments, if there are enough; whether there were.
    pub(super) fn merge(&self) -> Result<bool, IndexError> {
        let Some(work) = self.claim(merge_inputs) else {
            return Ok(false);
        };
        let merged = self.write_merged(&work.inputs)?;
        self.exchange(&work.inputs, merged.as_ref())?;
        Ok(true)
    }

    /// Takes segments that nothing else works on.
    pub(super) fn claim(
        &self,
        choose: impl FnOnce(&View, &Writer) -> Vec<Sealed>,
    ) -> Option<Work<'_>> {
        let mut writer = self.lock();
        let inputs = choose(&writer.committed, &writer);
        if inputs.is_empty() {
            return None;
        }
        writer.busy.extend(inputs.iter().map(|input| input.file));
        Some(Work { set: self, inputs })
    }

    /// Writes the live rows of the inputs to a new segment; `None` if there are none.
    pub(super) fn write_merged(&self, inputs: &[Sealed]) -> Result<Option<Sealed>, IndexError> {
        let rows: Vec<_> = inputs.iter().flat_map(Sealed::live_rows).collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let file = self.lock().take_file();
        write_segment(&self.dir, file, self.options.dim, rows).map(Some)
    }

    /// Puts the merged segment in the place of its inputs, first on the disk.
    pub(super) fn exchange(
        &self,
        inputs: &[Sealed],
        merged: Option<&Sealed>,
    ) -> Result<(), IndexError> {
        let mut writer = self.lock();
        writer.install_merged(inputs, merged)?;
        let view = self.view.load().with_merged(inputs, merged);
        self.view.store(Arc::new(view));
        Ok(())
    }
}

/// Segments without an engine that are about as large as all smaller ones together, if there are
/// enough of them, so that a row is written again only when its segment at least doubles; else a
/// hollow one.
fn merge_inputs(view: &View, writer: &Writer) -> Vec<Sealed> {
    let free = view.sealed.iter().filter(|s| !writer.busy.contains(&s.file));
    let mut small: Vec<&Sealed> = free.filter(|s| !s.is_indexed()).collect();
    small.sort_by_key(|sealed| (sealed.live(), sealed.file));
    let mut sum = 0;
    let alike = small.iter().take_while(|sealed| {
        let fits = sum == 0 || sealed.live() <= sum * 2;
        sum += sealed.live();
        fits
    });
    let alike = alike.count();
    if alike >= MERGE_SEGMENTS {
        return small[..alike].iter().map(|&s| s.clone()).collect();
    }
    let hollow = small.into_iter().find(|sealed| sealed.is_hollow());
    hollow.cloned().into_iter().collect()
}
