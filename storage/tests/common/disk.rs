//! A disk that remembers what was done to it, so that it can be cut off at any point; that fails
//! when it is told to; and that fills up.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use activekg_storage::Holder;
use redb::StorageBackend;

use super::Dice;

/// Written whole or not at all.
const SECTOR: usize = 512;

/// Space is given out in these.
const BLOCK: usize = 4096;

/// A disk. Writes are in its cache until a sync, and of those in the cache at a cut, any may have
/// reached the platter, in any order, one of them in part.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// As it reads, whether synced or not.
    bytes: Vec<u8>,
    log: Vec<Op>,
    n_syncs: usize,
    n_writes: usize,
    fault: Option<Fault>,
    space: Option<Space>,
}

/// Something done to the disk.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Write { offset: usize, data: Arc<[u8]> },
    Resize(usize),
    Sync,
}

/// When the disk fails, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) on: On,
    /// Operations of that kind that still succeed.
    pub(crate) after: usize,
    pub(crate) error: io::ErrorKind,
    /// Whether all later ones fail too.
    pub(crate) lasting: bool,
}

/// What fails: whatever takes space, or syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Space,
    Sync,
}

/// Who has how much of a disk of limited size, in blocks.
#[derive(Debug, Default)]
struct Space {
    blocks: usize,
    /// Those of the file that were ever written: it is sparse.
    used: BTreeSet<usize>,
    /// Kept back for the store.
    held: usize,
    /// Taken by others.
    others: usize,
}

impl Space {
    fn free(&self) -> usize {
        self.blocks.saturating_sub(self.used.len() + self.held + self.others)
    }
}

impl Op {
    pub(crate) fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Op::Write { offset, data } => {
                // A write beyond the end whose resize was lost is lost too.
                let end = (offset + data.len()).min(to.len());
                if *offset < end {
                    to[*offset..end].copy_from_slice(&data[..end - offset]);
                }
            }
            Op::Resize(len) => to.resize(*len, 0),
            Op::Sync => {}
        }
    }
}

impl Disk {
    pub(crate) fn with(bytes: Vec<u8>) -> Disk {
        Disk(Arc::new(Mutex::new(State { bytes, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn n_syncs(&self) -> usize {
        self.state().n_syncs
    }

    /// Writes and resizes so far.
    pub(crate) fn n_writes(&self) -> usize {
        self.state().n_writes
    }

    /// What is on the disk when nothing is lost.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    /// Hands over what was done so far, and forgets it.
    pub(crate) fn take_log(&self) -> Vec<Op> {
        std::mem::take(&mut self.state().log)
    }

    pub(crate) fn fail(&self, fault: Fault) {
        self.state().fault = Some(fault);
    }

    /// Makes it a disk of so many bytes, all that is on it counted as written.
    pub(crate) fn limit(&self, bytes: usize) {
        let mut state = self.state();
        let used = (0..state.bytes.len().div_ceil(BLOCK)).collect();
        state.space = Some(Space { blocks: bytes / BLOCK, used, ..Space::default() });
    }

    /// Lets others take all but `left` bytes of what is free.
    pub(crate) fn fill(&self, left: usize) {
        let mut state = self.state();
        let space = state.space.as_mut().unwrap();
        space.others += space.free().saturating_sub(left / BLOCK);
    }

    /// Lets others give everything back.
    pub(crate) fn drain(&self) {
        self.state().space.as_mut().unwrap().others = 0;
    }
}

impl State {
    fn op(&mut self, on: On) -> io::Result<()> {
        if on == On::Space {
            self.n_writes += 1;
        }
        let Some(fault) = self.fault.as_mut().filter(|fault| fault.on == on) else {
            return Ok(());
        };
        if fault.after > 0 {
            fault.after -= 1;
            return Ok(());
        }
        let error = fault.error;
        if !fault.lasting {
            self.fault = None;
        }
        Err(error.into())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let from = usize::try_from(offset).unwrap();
        let bytes = state.bytes.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.op(On::Space)?;
        let len = usize::try_from(len).unwrap();
        if let Some(space) = &mut state.space {
            space.used.split_off(&len.div_ceil(BLOCK));
        }
        let op = Op::Resize(len);
        op.apply(&mut state.bytes);
        state.log.push(op);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.op(On::Sync)?;
        state.log.push(Op::Sync);
        state.n_syncs += 1;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.op(On::Space)?;
        let offset = usize::try_from(offset).unwrap();
        if let Some(space) = &mut state.space {
            let blocks = offset / BLOCK..(offset + data.len()).div_ceil(BLOCK);
            let new: Vec<usize> = blocks.filter(|block| !space.used.contains(block)).collect();
            if new.len() > space.free() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            space.used.extend(new);
        }
        let op = Op::Write { offset, data: data.into() };
        op.apply(&mut state.bytes);
        state.log.push(op);
        Ok(())
    }
}

impl Holder for Disk {
    fn hold(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        let space = state.space.as_mut().unwrap();
        let wanted = usize::try_from(bytes).unwrap().div_ceil(BLOCK);
        if wanted > space.held + space.free() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        space.held = wanted;
        Ok(())
    }

    fn held(&self) -> io::Result<u64> {
        Ok((self.state().space.as_ref().unwrap().held * BLOCK) as u64)
    }

    fn free(&self) -> io::Result<u64> {
        Ok((self.state().space.as_ref().unwrap().free() * BLOCK) as u64)
    }

    fn name(&self) -> String {
        "the disk".to_owned()
    }
}

/// `before` with what a cut leaves of the `pending` operations.
pub(crate) fn torn(before: &[u8], pending: &[Op], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = before.to_vec();
    // File systems keep changes of a file's length in order; the last ones may be lost.
    let n_resizes = pending.iter().filter(|op| matches!(op, Op::Resize(_))).count();
    let kept = dice.below(n_resizes + 1);
    for resize in pending.iter().filter(|op| matches!(op, Op::Resize(_))).take(kept) {
        resize.apply(&mut bytes);
    }
    // Of the writes some, most or all.
    let lost_one_in = [2, 8, usize::MAX][dice.below(3)];
    let mut order: Vec<&Op> = Vec::new();
    for write in pending.iter().filter(|op| matches!(op, Op::Write { .. })) {
        if !dice.one_in(lost_one_in) {
            order.insert(dice.below(order.len() + 1), write);
        }
    }
    let cut = dice.below(order.len() + 1);
    for (n, write) in order.into_iter().enumerate() {
        match write {
            Op::Write { offset, data } if n == cut => {
                for (sector, data) in data.chunks(SECTOR).enumerate() {
                    if dice.one_in(2) {
                        let offset = offset + sector * SECTOR;
                        Op::Write { offset, data: data.into() }.apply(&mut bytes);
                    }
                }
            }
            whole => whole.apply(&mut bytes),
        }
    }
    bytes
}
