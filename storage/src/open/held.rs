//! A file whose writes are held back until it is clear that it may be written.
//!
//! Opening a store repairs it after a crash, before its format can be read. A store of a newer
//! format must not be touched, so what the repair writes stays in memory until then, and is written
//! afterwards in the same order with the same syncs.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;
use redb::backends::FileBackend;

use crate::space::{Reserve, Reserved};

/// Decides about the writes; the store below has the [`Backend`].
pub(crate) struct Held(Arc<Medium>);

/// The file as the store below sees it.
#[derive(Debug)]
pub(crate) struct Backend(Arc<Medium>);

#[derive(Debug)]
struct Medium {
    file: Reserved<FileBackend>,
    /// Writes go to the file. Never goes back.
    released: AtomicBool,
    steps: Mutex<Vec<Step>>,
}

#[derive(Debug)]
enum Step {
    Write { offset: u64, data: Vec<u8> },
    Resize(u64),
    Sync,
}

impl Held {
    pub(crate) fn new(file: File) -> Result<Held, redb::DatabaseError> {
        Ok(Held(Arc::new(Medium {
            file: Reserved::new(FileBackend::new(file)?),
            released: AtomicBool::new(false),
            steps: Mutex::default(),
        })))
    }

    pub(crate) fn backend(&self) -> Backend {
        Backend(Arc::clone(&self.0))
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        self.0.file.len()
    }

    /// Writes what was held back; from here on nothing is, and what does not fit on the disk gets
    /// its space from `reserve`. Not calling it forgets the writes.
    pub(crate) fn release(self, reserve: Arc<Reserve>) -> io::Result<()> {
        let mut steps = self.0.steps();
        self.0.file.fall_back_on(reserve);
        for step in steps.drain(..) {
            match step {
                Step::Write { offset, data } => self.0.file.write(offset, &data)?,
                Step::Resize(len) => self.0.file.set_len(len)?,
                Step::Sync => self.0.file.sync_data()?,
            }
        }
        self.0.released.store(true, Ordering::Release);
        Ok(())
    }
}

impl Medium {
    fn steps(&self) -> MutexGuard<'_, Vec<Step>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The steps so far, or nothing if they are on the file.
    fn held(&self) -> Option<MutexGuard<'_, Vec<Step>>> {
        if self.released.load(Ordering::Acquire) {
            return None;
        }
        let steps = self.steps();
        // Released while this waited.
        (!self.released.load(Ordering::Acquire)).then_some(steps)
    }

    fn len(&self, steps: &[Step]) -> io::Result<u64> {
        let resized = steps.iter().rev().find_map(|step| match step {
            Step::Resize(len) => Some(*len),
            Step::Write { .. } | Step::Sync => None,
        });
        resized.map_or_else(|| self.file.len(), Ok)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        match self.0.held() {
            Some(steps) => self.0.len(&steps),
            None => self.0.file.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let Some(steps) = self.0.held() else {
            return self.0.file.read(offset, out);
        };
        let end = offset.saturating_add(out.len() as u64);
        if end > self.0.len(&steps)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.fill(0);
        let on_file = self.0.file.len()?.clamp(offset, end) - offset;
        self.0.file.read(offset, &mut out[..index(on_file)])?;
        for step in steps.iter() {
            match step {
                Step::Write { offset: at, data } => {
                    let from = offset.max(*at);
                    let to = end.min(at.saturating_add(data.len() as u64));
                    if from < to {
                        let new = &data[index(from - at)..index(to - at)];
                        out[index(from - offset)..index(to - offset)].copy_from_slice(new);
                    }
                }
                // What is cut off reads as zeros if the file grows again.
                Step::Resize(len) => out[index(len.clamp(&offset, &end) - offset)..].fill(0),
                Step::Sync => {}
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match self.0.held() {
            Some(mut steps) => steps.push(Step::Resize(len)),
            None => self.0.file.set_len(len)?,
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.0.held() {
            Some(mut steps) => steps.push(Step::Sync),
            None => self.0.file.sync_data()?,
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.0.held() {
            Some(mut steps) => steps.push(Step::Write { offset, data: data.to_vec() }),
            None => self.0.file.write(offset, data)?,
        }
        Ok(())
    }
}

/// Offsets inside a buffer fit `usize`, since the buffer does.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Op {
        Write(u8, u8, u8),
        Resize(u8),
        Sync,
        Read(u8, u8),
    }

    /// One that holds nothing.
    fn reserve() -> Arc<Reserve> {
        let dir = tempfile::tempdir().unwrap();
        let holder = crate::space::FileHolder::open(dir.path()).unwrap();
        Arc::new(Reserve::new(Box::new(holder), 0).unwrap())
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0u8..100, 1u8..30, any::<u8>()).prop_map(|(at, n, b)| Op::Write(at, n, b)),
            1 => (0u8..130).prop_map(Op::Resize),
            1 => Just(Op::Sync),
            4 => (0u8..100, 1u8..40).prop_map(|(at, n)| Op::Read(at, n)),
        ]
    }

    proptest! {
        // Held back, a file reads as if it had been written, and is what it was; released, it is
        // what it read as.
        #[test]
        fn reads_as_if_written(ops in prop::collection::vec(op(), 0..40), late in 0usize..40) {
            let file = tempfile::tempfile().unwrap();
            let before = vec![7u8; 64];
            let direct = FileBackend::new(file.try_clone().unwrap()).unwrap();
            direct.write(0, &before).unwrap();
            let held = Held::new(file).unwrap();
            let backend = held.backend();
            let mut model = before.clone();
            let mut held = Some(held);
            for (n, op) in ops.into_iter().enumerate() {
                if n == late {
                    held.take().unwrap().release(reserve()).unwrap();
                }
                match op {
                    Op::Write(at, n, byte) => {
                        let (at, end) = (usize::from(at), usize::from(at) + usize::from(n));
                        if end <= model.len() {
                            model[at..end].fill(byte);
                            backend.write(at as u64, &model[at..end]).unwrap();
                        }
                    }
                    Op::Resize(len) => {
                        model.resize(usize::from(len), 0);
                        backend.set_len(u64::from(len)).unwrap();
                    }
                    Op::Sync => backend.sync_data().unwrap(),
                    Op::Read(at, n) => {
                        let mut out = vec![1; usize::from(n)];
                        let read = backend.read(u64::from(at), &mut out);
                        match model.get(usize::from(at)..usize::from(at) + usize::from(n)) {
                            Some(expected) => prop_assert_eq!(out, expected),
                            None => prop_assert!(read.is_err()),
                        }
                    }
                }
                prop_assert_eq!(backend.len().unwrap(), model.len() as u64);
            }
            let on_file = || {
                let mut bytes = vec![0; direct.len().unwrap() as usize];
                direct.read(0, &mut bytes).unwrap();
                bytes
            };
            if let Some(held) = held {
                prop_assert_eq!(on_file(), before);
                held.release(reserve()).unwrap();
            }
            prop_assert_eq!(on_file(), model);
        }
    }
}
