//! Background work on sealed segments: making few large ones of many small ones, and graphs.
//!
//! Segments are immutable, so all of it reads and writes files without holding the writer, and
//! only the exchange at the end takes the lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::graph::{Built, Graph};
use super::view::{GraphSlot, Sealed, View};
use super::writer::{Writer, discard, write_segment};
use super::{Engine, VectorSet};
use crate::IndexError;

/// This many small segments become one.
const MERGE_SEGMENTS: usize = 4;

/// Segments that one piece of work reads; others leave them alone until it is dropped.
struct Work<'a> {
    set: &'a VectorSet,
    inputs: Vec<Sealed>,
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

    /// Builds one graph that is wanted; whether there was one to build and it was not stopped.
    pub(super) fn build_one(&self, stop: &AtomicBool) -> Result<bool, IndexError> {
        if self.options.engine == Engine::Exact {
            return Ok(false);
        }
        let limit = self.options.exact_limit;
        let Some(work) = self.claim(|view, busy| graph_inputs(view, busy, limit)) else {
            return Ok(false);
        };
        self.graph_rows_done.store(0, Ordering::Relaxed);
        let whole = matches!(&work.inputs[..], [only] if !only.is_hollow());
        let base =
            if whole { Some(work.inputs[0].clone()) } else { self.write_merged(&work.inputs)? };
        let slot = match &base {
            Some(base) => self.build_slot(base, stop),
            None => Some(GraphSlot::Absent),
        };
        let Some(slot) = slot else {
            // Stopped; a new file is in no manifest yet.
            if let (false, Some(base)) = (whole, &base) {
                discard(&self.dir, base);
            }
            return Ok(false);
        };
        if whole {
            self.attach(work.inputs[0].file, &slot);
        } else {
            let merged = base.map(|base| Sealed { graph: slot, ..base });
            self.exchange(&work.inputs, merged.as_ref())?;
        }
        Ok(true)
    }

    /// The graph of a segment; `None` if stopped.
    fn build_slot(&self, sealed: &Sealed, stop: &AtomicBool) -> Option<GraphSlot> {
        let built = Graph::build(
            &sealed.segment,
            self.options.metric,
            self.kernels,
            self.options.hnsw,
            stop,
            &self.graph_rows_done,
        );
        match built {
            Built::Standing(graph) => Some(GraphSlot::Standing(Arc::new(graph))),
            Built::Stopped => None,
            Built::Rejected(reason) => {
                tracing::error!("discarded a vector graph, search stays exact: {reason}");
                Some(GraphSlot::Rejected)
            }
        }
    }

    fn claim(&self, choose: impl FnOnce(&View, &Writer) -> Vec<Sealed>) -> Option<Work<'_>> {
        let mut writer = self.lock();
        let inputs = choose(&writer.committed, &writer);
        if inputs.is_empty() {
            return None;
        }
        writer.busy.extend(inputs.iter().map(|input| input.file));
        Some(Work { set: self, inputs })
    }

    /// Writes the live rows of the inputs to a new segment; `None` if there are none.
    fn write_merged(&self, inputs: &[Sealed]) -> Result<Option<Sealed>, IndexError> {
        let rows: Vec<_> = inputs.iter().flat_map(Sealed::live_rows).collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let file = self.lock().take_file();
        write_segment(&self.dir, file, self.options.dim, rows).map(Some)
    }

    /// Puts the merged segment in the place of its inputs, first on the disk.
    fn exchange(&self, inputs: &[Sealed], merged: Option<&Sealed>) -> Result<(), IndexError> {
        let mut writer = self.lock();
        writer.install_merged(inputs, merged)?;
        let view = self.view.load().with_merged(inputs, merged);
        self.view.store(Arc::new(view));
        Ok(())
    }

    fn attach(&self, file: u32, slot: &GraphSlot) {
        let with_graph = |view: &View| {
            let mut view = view.clone();
            for sealed in view.sealed.iter_mut().filter(|sealed| sealed.file == file) {
                sealed.graph = slot.clone();
            }
            Arc::new(view)
        };
        let mut writer = self.lock();
        writer.committed = with_graph(&writer.committed);
        self.view.store(with_graph(&self.view.load()));
    }
}

/// Segments without a graph that are about as large as all smaller ones together, if there are
/// enough of them, so that a row is written again only when its segment at least doubles; else a
/// hollow one.
fn merge_inputs(view: &View, writer: &Writer) -> Vec<Sealed> {
    let free = view.sealed.iter().filter(|s| !writer.busy.contains(&s.file));
    let mut small: Vec<&Sealed> =
        free.filter(|s| !matches!(s.graph, GraphSlot::Standing(_))).collect();
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

/// The segments that should have a graph and have none, once they hold more than `limit` rows,
/// with the graphs that are smaller than them all; or a hollow graph with whatever has none.
fn graph_inputs(view: &View, writer: &Writer, limit: usize) -> Vec<Sealed> {
    let free = || view.sealed.iter().filter(|s| !writer.busy.contains(&s.file));
    let standing = |s: &&Sealed| matches!(s.graph, GraphSlot::Standing(_));
    let absent = |s: &&Sealed| matches!(s.graph, GraphSlot::Absent) && s.live() > 0;
    let waiting: usize = free().filter(absent).map(Sealed::live).sum();
    let mut inputs: Vec<Sealed> = free()
        .filter(standing)
        .filter(|s| s.is_hollow() || (waiting > limit && s.live() <= waiting))
        .cloned()
        .collect();
    if waiting > limit || !inputs.is_empty() {
        inputs.extend(free().filter(absent).cloned());
    }
    inputs
}
