//! Archives as they are kept: encrypted or not.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use activekg_storage::crypt::{OpenReader, SealWriter, StreamError, StreamKey};

use super::Error;
use super::target::Draft;

/// What an archive that is not encrypted begins with.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// The bytes of an archive.
pub(super) type Archive = Box<dyn Read + Send>;

/// Writes an archive, encrypted or not.
pub(super) enum Writer {
    Plain(Box<dyn Draft>),
    Sealed(Box<SealWriter<Box<dyn Draft>>>),
}

impl Writer {
    pub(super) fn new(draft: Box<dyn Draft>, key: Option<&StreamKey>) -> io::Result<Self> {
        Ok(match key {
            Some(key) => Self::Sealed(Box::new(SealWriter::new(draft, key)?)),
            None => Self::Plain(draft),
        })
    }

    pub(super) fn finish(self) -> io::Result<Box<dyn Draft>> {
        match self {
            Self::Plain(draft) => Ok(draft),
            Self::Sealed(sealed) => sealed.finish(),
        }
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(draft) => draft.write(bytes),
            Self::Sealed(sealed) => sealed.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(draft) => draft.flush(),
            Self::Sealed(sealed) => sealed.flush(),
        }
    }
}

/// Decrypts `bytes` if they are not an archive as they stand.
///
/// # Errors
///
/// [`Error::NoKey`], [`Error::WrongKey`], or they cannot be read.
pub(super) fn opened(bytes: Archive, key: Option<&StreamKey>) -> Result<Archive, Error> {
    let mut bytes = BufReader::with_capacity(BUFFER_BYTES, bytes);
    let mut head = Vec::new();
    bytes.by_ref().take(ZSTD.len() as u64).read_to_end(&mut head).map_err(Error::Target)?;
    let plain = head == ZSTD;
    let bytes = io::Cursor::new(head).chain(bytes);
    if plain {
        return Ok(Box::new(bytes));
    }
    let Some(key) = key else {
        // Whether it is encrypted at all does not show without a key.
        return Err(Error::NoKey);
    };
    match OpenReader::new(bytes, key) {
        Ok(opened) => Ok(Box::new(opened)),
        Err(StreamError::Io(error)) => Err(Error::Target(error)),
        Err(StreamError::NotSealed) => {
            Err(activekg_storage::backup::ArchiveError::NotAnArchive.into())
        }
        Err(error) => Err(Error::WrongKey(error.to_string())),
    }
}

/// Opens the archive in the file `path`. Blocks.
///
/// # Errors
///
/// [`Error::NotFound`], or it cannot be read or decrypted.
pub fn open_file(path: &Path, key: Option<&StreamKey>) -> Result<Box<dyn Read + Send>, Error> {
    match File::open(path) {
        Ok(file) => opened(Box::new(file), key),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::NotFound(path.display().to_string()))
        }
        Err(error) => Err(Error::Target(error)),
    }
}
