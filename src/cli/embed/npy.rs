//! Vectors in a file that NumPy reads.

use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::Sink;
use super::draft::Draft;

/// Bytes before the numbers: a multiple of 64, and enough for any shape.
const HEADER: usize = 128;

/// An array of 32-bit floats, a row for each text, and beside it a file with a line for the id of
/// each row.
pub(super) struct Npy {
    rows: Draft,
    ids: Draft,
    n_rows: u64,
    dim: usize,
}

impl Npy {
    /// An array at `path` of vectors of `dim` numbers.
    ///
    /// # Errors
    ///
    /// When no file can be made there.
    pub(super) fn new(path: &Path, dim: usize) -> anyhow::Result<Self> {
        let mut rows = Draft::new(path)?;
        // In its place for now; how many rows there are is known at the end.
        rows.write_all(&header(0, dim)).with_context(|| rows.writing())?;
        Ok(Self { rows, ids: Draft::new(&ids_path(path))?, n_rows: 0, dim })
    }
}

impl Sink for Npy {
    fn put(&mut self, id: Value, vector: &[f32]) -> anyhow::Result<()> {
        anyhow::ensure!(vector.len() == self.dim, "a vector has {} numbers", vector.len());
        for number in vector {
            self.rows.write_all(&number.to_le_bytes()).with_context(|| self.rows.writing())?;
        }
        writeln!(self.ids, "{id}").with_context(|| self.ids.writing())?;
        self.n_rows += 1;
        Ok(())
    }

    fn rest(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        let rewritten = rewrite(self.rows.file(), &header(self.n_rows, self.dim));
        rewritten.with_context(|| self.rows.writing())?;
        // The array comes last: where it is, its ids are.
        self.ids.publish()?;
        self.rows.publish()
    }
}

/// Where the ids of the rows of `path` are: its name with `.ids.jsonl` after it.
fn ids_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".ids.jsonl");
    PathBuf::from(name)
}

fn rewrite<W: Write + Seek>(file: &mut BufWriter<W>, header: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(header)
}

/// The header of NumPy's format, version 1.0: a mark, the version, the length of what follows, and
/// a Python literal that ends with a line break.
fn header(n_rows: u64, dim: usize) -> Vec<u8> {
    let dictionary =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({n_rows}, {dim}), }}");
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    let length = HEADER - header.len() - 2;
    header.extend_from_slice(&(length as u16).to_le_bytes());
    header.extend_from_slice(format!("{dictionary:<width$}\n", width = length - 1).as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_array_has_a_header_then_its_rows_and_its_ids_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.npy");
        let mut npy = Box::new(Npy::new(&path, 2).unwrap());
        npy.put(json!("a"), &[1.0, -2.5]).unwrap();
        npy.put(json!(7), &[0.0, 3.0]).unwrap();
        assert!(npy.put(json!("short"), &[0.0]).is_err());
        assert!(std::fs::read_dir(folder.path()).unwrap().count() == 2, "two drafts");
        assert!(!path.exists());
        npy.finish().unwrap();

        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00\x76\x00");
        let header = std::str::from_utf8(&bytes[10..HEADER]).unwrap();
        let literal = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }";
        assert_eq!(header.trim_end(), literal);
        assert!(header.ends_with(" \n"));
        let numbers = bytes[HEADER..].chunks_exact(4);
        let numbers: Vec<f32> =
            numbers.map(|number| f32::from_le_bytes(number.try_into().unwrap())).collect();
        assert_eq!(numbers, [1.0, -2.5, 0.0, 3.0]);
        let ids = std::fs::read_to_string(folder.path().join("v.npy.ids.jsonl")).unwrap();
        assert_eq!(ids, "\"a\"\n7\n");
    }

    #[test]
    fn a_header_holds_any_shape() {
        for header in [header(0, 1), header(u64::MAX, 16_384)] {
            assert_eq!((header.len(), header[HEADER - 1]), (HEADER, b'\n'));
        }
    }
}
