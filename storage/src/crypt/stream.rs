//! Sealed streams: files of any length, encrypted and protected against every change.
//!
//! A stream is a header and chunks. Each chunk is AES-256-GCM over [`CHUNK_BYTES`] of plaintext, the
//! last one over what is left; its nonce is its number and whether it is the last, so chunks can be
//! neither moved, left out, repeated nor cut off. The key of the chunks is derived (HKDF-SHA256) from
//! the given key, a random salt and the header: no two streams share one, and a changed header opens
//! nothing.

mod header;
mod reader;
mod writer;

use std::io;

use aes_gcm::aead::{AeadInPlace as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce, Tag};

use super::key::{self, InvalidKey, KeyBytes};
use super::{DecryptionFailed, KeyRing};
use crate::time::UnixMicros;
pub use reader::OpenReader;
pub use writer::SealWriter;

/// Plaintext bytes of every chunk but the last.
pub const CHUNK_BYTES: usize = 64 << 10;

/// Bytes that a chunk is longer than its plaintext.
const TAG_BYTES: usize = 16;

/// The key of sealed streams.
pub struct StreamKey(KeyBytes);

impl StreamKey {
    /// Reads a key of 44 characters, as `activekg keys generate` prints it.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`], which does not repeat the text.
    pub fn parse(text: &str) -> Result<StreamKey, InvalidKey> {
        key::parse(text).map(StreamKey)
    }

    /// A new key.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub fn random() -> io::Result<StreamKey> {
        key::random().map(StreamKey)
    }

    /// The key as a sealed secret, and the version of the key that sealed it.
    fn wrap(&self, ring: &KeyRing, now: UnixMicros) -> (String, u32) {
        let sealed = ring.seal(self.0.as_slice(), now);
        (sealed.token, sealed.version)
    }

    fn unwrap(ring: &KeyRing, token: &str, version: u32) -> Result<StreamKey, DecryptionFailed> {
        let opened = ring.open(token, version)?;
        let mut key = KeyBytes::default();
        if opened.secret.reveal().len() != key.len() {
            return Err(DecryptionFailed);
        }
        key.copy_from_slice(opened.secret.reveal());
        Ok(StreamKey(key))
    }
}

/// Why a stream cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else, or its first bytes are damaged.
    #[error("not a sealed file")]
    NotSealed,
    /// A newer version wrote it.
    #[error(
        "sealed in format {0}, this version knows format {FORMAT}; use the version that sealed it or a newer one"
    )]
    NewerFormat(u8),
    /// It was sealed with a key of the other kind: given for it, or from the key ring.
    #[error("sealed with {0}")]
    OtherKind(&'static str),
    /// No key of the ring opens it.
    #[error("sealed with key version {version}: {source}")]
    NoKey {
        /// The version the stream names.
        version: u32,
        /// What the ring said.
        source: DecryptionFailed,
    },
    /// The key is another one, or the header is damaged.
    #[error("sealed with another key, or its first bytes are damaged")]
    WrongKey,
}

/// What is not an error of reading is about the bytes: of kind
/// [`InvalidData`](io::ErrorKind::InvalidData).
impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> io::Error {
        match error {
            StreamError::Io(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        }
    }
}

/// The format this version writes.
const FORMAT: u8 = 1;

/// Encrypts the chunks of one stream in their order, or decrypts them.
struct Chunks {
    cipher: Aes256Gcm,
    /// Number of the next chunk.
    next: u64,
}

impl Chunks {
    fn new(key: &KeyBytes) -> Chunks {
        Chunks { cipher: Aes256Gcm::new((&**key).into()), next: 0 }
    }

    /// Encrypts `chunk` where it stands and goes on to the next one.
    fn seal(&mut self, chunk: &mut [u8], last: bool) -> io::Result<Tag> {
        let nonce = self.nonce(last);
        let sealed = self.cipher.encrypt_in_place_detached(&nonce, &[], chunk);
        let tag = sealed.map_err(|_| io::Error::other("a chunk is too long to be sealed"))?;
        self.next += 1;
        Ok(tag)
    }

    /// Decrypts `chunk` where it stands and goes on to the next one; `false` if it is not the next
    /// chunk as it was sealed, and then it is as it was.
    fn open(&mut self, chunk: &mut [u8], tag: &[u8; TAG_BYTES], last: bool) -> bool {
        let nonce = self.nonce(last);
        let opened = self.cipher.decrypt_in_place_detached(&nonce, &[], chunk, tag.into()).is_ok();
        self.next += u64::from(opened);
        opened
    }

    /// Eleven bytes of number, big-endian, and one that marks the last chunk.
    fn nonce(&self, last: bool) -> Nonce<aes_gcm::aead::consts::U12> {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&self.next.to_be_bytes());
        nonce[11] = u8::from(last);
        nonce.into()
    }
}

#[cfg(test)]
mod tests;
