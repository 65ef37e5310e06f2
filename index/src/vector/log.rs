//! The append log: committed changes that are not in a sealed segment yet.
//!
//! ```text
//! header    magic, dimension, CRC-32C of both
//! batch     length of the body, its CRC-32C, body; one batch a commit
//! body      changes: tag, id, and for a put the tenant's length, its name and the values
//! ```
//!
//! The manifest says how many bytes are committed. What is beyond was never acknowledged and is
//! cut off; anything wrong before that is damage.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::{VectorOp, reading_failed};
use crate::IndexError;

const MAGIC: &[u8; 8] = b"AKGVLOG1";
pub(super) const HEADER_BYTES: u64 = 16;
const BATCH_HEADER_BYTES: u64 = 12;
const PUT: u8 = 1;
const REMOVE: u8 = 2;

/// Makes an empty log, on the disk when this returns.
pub(super) fn create(path: &Path, dim: usize) -> io::Result<File> {
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&(dim as u32).to_le_bytes());
    let checksum = crc32c::crc32c(&header[..12]);
    header[12..].copy_from_slice(&checksum.to_le_bytes());
    let mut file = File::create(path)?;
    file.write_all(&header)?;
    file.sync_all()?;
    Ok(file)
}

/// Writes a batch behind the first `committed` bytes and brings it to the disk; gives the length
/// with it.
pub(super) fn append(file: &mut File, committed: u64, body: &[u8]) -> io::Result<u64> {
    let mut header = [0; BATCH_HEADER_BYTES as usize];
    header[..8].copy_from_slice(&(body.len() as u64).to_le_bytes());
    header[8..].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    file.seek(SeekFrom::Start(committed))?;
    file.write_all(&header)?;
    file.write_all(body)?;
    file.sync_data()?;
    Ok(committed + BATCH_HEADER_BYTES + body.len() as u64)
}

/// Adds a change to a batch.
pub(super) fn encode(op: &VectorOp, body: &mut Vec<u8>) {
    match op {
        VectorOp::Put { id, tenant, values } => {
            body.push(PUT);
            body.extend_from_slice(&id.to_le_bytes());
            body.extend_from_slice(&(tenant.len() as u32).to_le_bytes());
            body.extend_from_slice(tenant.as_bytes());
            values.iter().for_each(|v| body.extend_from_slice(&v.to_le_bytes()));
        }
        VectorOp::Remove { id } => {
            body.push(REMOVE);
            body.extend_from_slice(&id.to_le_bytes());
        }
    }
}

/// Checks the first `committed` bytes of a log and hands every change in them to `apply`, in
/// order. Gives the file, cut to that length, to append to.
pub(super) fn replay(
    path: &Path,
    dim: usize,
    committed: u64,
    mut apply: impl FnMut(VectorOp),
) -> Result<File, IndexError> {
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::UnexpectedEof => IndexError::damaged(path, "cut short"),
        _ => reading_failed(path, &e),
    };
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    let mut reader = BufReader::with_capacity(1 << 18, &file);
    let mut header = [0; HEADER_BYTES as usize];
    reader.read_exact(&mut header).map_err(failed)?;
    let checksum = crc32c::crc32c(&header[..12]).to_le_bytes();
    if header[..8] != *MAGIC
        || header[12..] != checksum
        || header[8..12] != (dim as u32).to_le_bytes()
    {
        return Err(IndexError::damaged(path, "not a log of this set"));
    }
    let mut at = HEADER_BYTES;
    while at < committed {
        let mut header = [0; BATCH_HEADER_BYTES as usize];
        reader.read_exact(&mut header).map_err(failed)?;
        let (length, checksum) = header.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        let length = u64::from_le_bytes(*length);
        at = at
            .checked_add(BATCH_HEADER_BYTES)
            .and_then(|at| at.checked_add(length))
            .filter(|&at| at <= committed)
            .ok_or_else(|| IndexError::damaged(path, "a batch ends after the commit"))?;
        let mut body = Vec::new();
        let read = (&mut reader).take(length).read_to_end(&mut body).map_err(failed)?;
        if read as u64 != length || *checksum != crc32c::crc32c(&body).to_le_bytes() {
            return Err(IndexError::damaged(path, "a batch does not match its checksum"));
        }
        let mut rest = &body[..];
        while !rest.is_empty() {
            let op = decode(&mut rest, dim)
                .ok_or_else(|| IndexError::damaged(path, "a change cannot be read"))?;
            apply(op);
        }
    }
    file.set_len(committed).map_err(|e| IndexError::io(path, &e))?;
    Ok(file)
}

fn decode(bytes: &mut &[u8], dim: usize) -> Option<VectorOp> {
    let (tag, rest) = bytes.split_first()?;
    let (id, rest) = rest.split_first_chunk::<16>()?;
    let id = u128::from_le_bytes(*id);
    match *tag {
        PUT => {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (tenant, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            let (values, rest) = rest.split_at_checked(dim.checked_mul(4)?)?;
            *bytes = rest;
            let (values, _) = values.as_chunks::<4>();
            Some(VectorOp::Put {
                id,
                tenant: std::str::from_utf8(tenant).ok()?.to_owned(),
                values: values.iter().map(|&v| f32::from_le_bytes(v)).collect(),
            })
        }
        REMOVE => {
            *bytes = rest;
            Some(VectorOp::Remove { id })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn batches() -> Vec<Vec<VectorOp>> {
        let put =
            |id, tenant: &str| VectorOp::Put { id, tenant: tenant.into(), values: vec![0.5, -2.0] };
        vec![
            vec![put(1, "a"), put(2, "ü")],
            vec![VectorOp::Remove { id: 1 }],
            vec![put(u128::MAX, "")],
        ]
    }

    fn write(path: &Path) -> u64 {
        let mut file = create(path, 2).unwrap();
        batches().iter().fold(HEADER_BYTES, |at, ops| {
            let mut body = Vec::new();
            ops.iter().for_each(|op| encode(op, &mut body));
            append(&mut file, at, &body).unwrap()
        })
    }

    #[test]
    fn a_replay_gives_the_changes_and_cuts_what_was_not_committed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let committed = write(&path);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"half a batch").unwrap();
        let mut ops = Vec::new();
        replay(&path, 2, committed, |op| ops.push(op)).unwrap();
        assert_eq!(ops, batches().concat());
        assert_eq!(fs::metadata(&path).unwrap().len(), committed);
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let committed = write(&path);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x80;
            fs::write(&path, &bad).unwrap();
            assert!(replay(&path, 2, committed, |_| ()).is_err(), "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert!(replay(&path, 2, committed, |_| ()).is_err(), "cut at {at}");
        }
    }
}
