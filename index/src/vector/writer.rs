//! The writing side of a set: the log, the manifest, and sealing.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bits::Bits;
use super::graph::Graph;
use super::ivf::Ivf;
use super::manifest::{self, DeadRef, LogRef, Manifest, SegmentRef};
use super::segment::{self, Segment};
use super::view::{FreshRows, Sealed, Slot, View};
use super::{Engine, VectorOp, VectorOptions, log};
use crate::{IndexError, Kernels, files};

/// Everything only one thread may touch at a time.
pub(super) struct Writer {
    dir: PathBuf,
    /// What is on the disk.
    manifest: Manifest,
    log: Option<File>,
    /// Changes since the last commit, encoded.
    pending: Vec<u8>,
    pub(super) rows: FreshRows,
    /// The state of the last commit. Merges start from it, so that what they write never
    /// runs ahead of the sequence number.
    pub(super) committed: Arc<View>,
    /// Segments that a merge is reading.
    pub(super) busy: HashSet<u32>,
}

impl Writer {
    /// Reads the set in `dir`, or makes an empty one. The view is [`Writer::committed`].
    pub(super) fn open(dir: &Path, options: &VectorOptions) -> Result<Self, IndexError> {
        files::create_folder(dir)?;
        let manifest = match Manifest::load(dir)? {
            Some(manifest) => manifest,
            None => {
                if let Some(name) = our_files(dir)?.into_iter().find(|n| !n.ends_with(".tmp")) {
                    let reason = format!("there is no manifest for {name}");
                    return Err(IndexError::damaged(dir, reason));
                }
                let manifest = Manifest::new(options.dim, options.metric);
                manifest.save(dir).map_err(|e| IndexError::io(dir, &e))?;
                manifest
            }
        };
        if manifest.dim != options.dim || manifest.metric != options.metric {
            let reason = format!("it has {} values by {:?}", manifest.dim, manifest.metric);
            return Err(IndexError::damaged(dir, reason));
        }

        let mut view = View { engines: options.engines, ..View::default() };
        for entry in &manifest.segments {
            let path = dir.join(manifest::segment_name(entry.file));
            let segment = Segment::open(&path, manifest.dim)?;
            if segment.checksum() != entry.checksum {
                return Err(IndexError::damaged(&path, "not the segment of this commit"));
            }
            let mut sealed = Sealed::new(entry.file, segment);
            if let Some(dead) = &entry.dead {
                let path = dir.join(manifest::dead_name(dead.file));
                sealed.dead = Arc::new(Bits::load(&path, sealed.segment.rows())?);
                if sealed.dead.count() != dead.count {
                    return Err(IndexError::damaged(&path, "not the rows of this commit"));
                }
            }
            for engine in Engine::ALL {
                if options.engines.contains(engine) {
                    read_engine(dir, &mut sealed, engine, options);
                } else {
                    remove_engine(dir, entry.file, engine);
                }
            }
            view.sealed.push(sealed);
        }
        let mut rows = FreshRows::new();
        let log = match &manifest.log {
            Some(LogRef { file, bytes }) => {
                let path = dir.join(manifest::log_name(*file));
                let apply = |op| view.apply(&mut rows, &op);
                Some(log::replay(&path, manifest.dim, *bytes, apply)?)
            }
            None => None,
        };
        let this = Self {
            dir: dir.to_owned(),
            manifest,
            log,
            pending: Vec::new(),
            rows,
            committed: Arc::new(view),
            busy: HashSet::new(),
        };
        this.delete_unused(&our_files(dir)?);
        Ok(this)
    }

    pub(super) fn seq(&self) -> Option<u64> {
        self.manifest.seq
    }

    /// Bytes of committed changes that are in the log only.
    pub(super) fn log_bytes(&self) -> u64 {
        self.manifest.log.as_ref().map_or(0, |log| log.bytes)
    }

    /// Whether there are changes after the last commit.
    pub(super) fn is_ahead(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Applies checked changes to a view of the set and takes them down for the next commit.
    pub(super) fn apply(&mut self, view: &mut View, ops: &[VectorOp]) {
        for op in ops {
            view.apply(&mut self.rows, op);
            log::encode(op, &mut self.pending);
        }
    }

    /// Makes `view`, the state after all changes so far, the committed one.
    pub(super) fn commit(&mut self, view: Arc<View>, seq: u64) -> Result<(), IndexError> {
        let mut next = self.manifest.clone();
        next.seq = Some(seq);
        if !self.pending.is_empty() {
            let (file, mut entry) = match (self.log.take(), next.log.take()) {
                (Some(file), Some(entry)) => (file, entry),
                _ => {
                    // A number stays used even if this fails.
                    let number = self.manifest.take_file();
                    next.next_file = self.manifest.next_file;
                    let path = self.dir.join(manifest::log_name(number));
                    let file =
                        log::create(&path, next.dim).map_err(|e| IndexError::io(&path, &e))?;
                    let bytes = log::HEADER_BYTES;
                    (file, LogRef { file: number, bytes })
                }
            };
            let path = self.dir.join(manifest::log_name(entry.file));
            let file = self.log.insert(file);
            entry.bytes = log::append(file, entry.bytes, &self.pending)
                .map_err(|e| IndexError::io(&path, &e))?;
            next.log = Some(entry);
        }
        self.install(next)?;
        self.pending = Vec::new();
        self.committed = view;
        Ok(())
    }

    /// Moves all fresh rows of `view` into a sealed segment and starts a new log. There must be
    /// nothing after the last commit.
    pub(super) fn seal(&mut self, view: &View) -> Result<View, IndexError> {
        let mut sealed_view =
            View { sealed: view.sealed.clone(), engines: view.engines, ..View::default() };
        if view.fresh.live() > 0 {
            sealed_view.sealed.push(self.write_segment(view.fresh.iter().collect())?);
        }
        self.install_segments(&sealed_view, true)?;
        self.rows = FreshRows::new();
        self.log = None;
        self.committed = Arc::new(sealed_view.clone());
        Ok(sealed_view)
    }

    /// Takes the number of a segment to be written without this writer's lock.
    pub(super) fn take_file(&mut self) -> u32 {
        self.manifest.take_file()
    }

    /// Puts `merged` in the place of `inputs` on the disk and in the committed state.
    pub(super) fn install_merged(
        &mut self,
        inputs: &[Sealed],
        merged: Option<&Sealed>,
    ) -> Result<(), IndexError> {
        let committed = self.committed.with_merged(inputs, merged);
        self.install_segments(&committed, false)?;
        self.committed = Arc::new(committed);
        Ok(())
    }

    fn write_segment(&mut self, rows: Vec<segment::Row<'_>>) -> Result<Sealed, IndexError> {
        let file = self.take_file();
        write_segment(&self.dir, file, self.manifest.dim, rows)
    }

    /// Installs a manifest with the segments of `view`, and without the log if `anew`.
    fn install_segments(&mut self, view: &View, anew: bool) -> Result<(), IndexError> {
        let mut segments = Vec::with_capacity(view.sealed.len());
        for sealed in &view.sealed {
            let known = self.manifest.segments.iter().find(|s| s.file == sealed.file);
            let mut dead = known.and_then(|known| known.dead.clone());
            // Rows only ever die, so the count tells whether the file is current.
            let count = sealed.dead.count();
            if count > dead.as_ref().map_or(0, |dead| dead.count) {
                let file = self.manifest.take_file();
                let path = self.dir.join(manifest::dead_name(file));
                sealed.dead.save(&path).map_err(|e| IndexError::io(&path, &e))?;
                dead = Some(DeadRef { file, count });
            }
            segments.push(SegmentRef {
                file: sealed.file,
                checksum: sealed.segment.checksum(),
                dead,
            });
        }
        let mut next = self.manifest.clone();
        next.segments = segments;
        if anew {
            next.log = None;
        }
        let before = self.manifest.file_names();
        self.install(next)?;
        self.delete_unused(&before);
        Ok(())
    }

    fn install(&mut self, next: Manifest) -> Result<(), IndexError> {
        next.save(&self.dir).map_err(|e| IndexError::io(&self.dir, &e))?;
        self.manifest = next;
        Ok(())
    }

    /// Deletes those of the files that the manifest does not refer to. One that stays is deleted
    /// at the next open.
    fn delete_unused(&self, names: &[String]) {
        let used = self.manifest.file_names();
        for name in names.iter().filter(|name| !used.contains(name)) {
            remove(&self.dir, name);
        }
    }
}

/// Takes an engine of a segment from the disk. Without it searches are only slower, so what cannot
/// be read is built anew and is no damage to the set.
fn read_engine(dir: &Path, sealed: &mut Sealed, engine: Engine, options: &VectorOptions) {
    let path = dir.join(manifest::engine_name(sealed.file, engine));
    let VectorOptions { metric, hnsw, ivfflat, .. } = *options;
    let segment = &sealed.segment;
    match engine {
        Engine::Hnsw => {
            sealed.graph = slot(Graph::open(&path, segment, metric, Kernels::detect(), hnsw));
        }
        Engine::IvfFlat => sealed.lists = slot(Ivf::open(&path, segment, ivfflat)),
    }
}

fn slot<T>(opened: Result<Option<T>, IndexError>) -> Slot<T> {
    match opened {
        Ok(Some(engine)) => Slot::Standing(Arc::new(engine)),
        Ok(None) => Slot::Absent,
        Err(error) => {
            tracing::warn!("an index of a vector segment is built anew: {error}");
            Slot::Absent
        }
    }
}

/// Deletes the file of an engine of a segment, if there is one.
pub(super) fn remove_engine(dir: &Path, file: u32, engine: Engine) {
    remove(dir, &manifest::engine_name(file, engine));
}

/// Deletes a file that is not used. One that stays does no harm.
fn remove(dir: &Path, name: &str) {
    match std::fs::remove_file(dir.join(name)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(file = %name, "could not delete an unused index file: {error}");
        }
        _ => {}
    }
}

/// Writes a segment and opens it.
pub(super) fn write_segment(
    dir: &Path,
    file: u32,
    dim: usize,
    rows: Vec<segment::Row<'_>>,
) -> Result<Sealed, IndexError> {
    let path = dir.join(manifest::segment_name(file));
    segment::write(&path, dim, rows).map_err(|e| IndexError::io(&path, &e))?;
    Ok(Sealed::new(file, Segment::open(&path, dim)?))
}

/// Deletes a written segment that will not be used.
pub(super) fn discard(dir: &Path, sealed: &Sealed) {
    remove(dir, &manifest::segment_name(sealed.file));
    for engine in Engine::ALL {
        remove_engine(dir, sealed.file, engine);
    }
}

/// The names in `dir` that a set may have made, but for the manifest.
fn our_files(dir: &Path) -> Result<Vec<String>, IndexError> {
    let mut names = Vec::new();
    for entry in dir.read_dir().map_err(|e| IndexError::io(dir, &e))? {
        let entry = entry.map_err(|e| IndexError::io(dir, &e))?;
        names.extend(entry.file_name().into_string());
    }
    names.retain(|name| manifest::is_ours(name));
    Ok(names)
}
