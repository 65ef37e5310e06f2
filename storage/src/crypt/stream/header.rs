//! The header of a sealed stream.
//!
//! ```text
//! magic          8 bytes  "AKGSEAL\n"
//! format         1        1
//! key version    4        big-endian; 0 if the key was given for this stream
//! wrapped key    2 + n    length, big-endian, and the stream's own key, sealed by the key ring;
//!                         empty if the key was given
//! salt          32        random
//! key check     16        tells a wrong key from damage further on
//! ```

use std::io::{self, Read};

use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Chunks, FORMAT, KeyBytes, StreamError};
use crate::crypt::key::KEY_BYTES;

const MAGIC: &[u8; 8] = b"AKGSEAL\n";
const SALT_BYTES: usize = 32;
const CHECK_BYTES: usize = 16;

/// More than any wrapped key has.
const WRAPPED_MAX: usize = 1024;

/// What the header says before any key is known.
pub(super) struct Header {
    /// Everything before the salt.
    preamble: Vec<u8>,
    pub(super) version: u32,
    pub(super) wrapped: Vec<u8>,
    salt: [u8; SALT_BYTES],
}

impl Header {
    /// For a new stream.
    pub(super) fn new(version: u32, wrapped: &[u8]) -> io::Result<Header> {
        let n_wrapped = u16::try_from(wrapped.len()).map_err(io::Error::other)?;
        let mut preamble = MAGIC.to_vec();
        preamble.push(FORMAT);
        preamble.extend(version.to_be_bytes());
        preamble.extend(n_wrapped.to_be_bytes());
        preamble.extend(wrapped);
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt)?;
        Ok(Header { preamble, version, wrapped: wrapped.to_vec(), salt })
    }

    /// Reads everything but the key check.
    pub(super) fn read(from: &mut impl Read) -> Result<Header, StreamError> {
        let mut fixed = [0; 15];
        read(from, &mut fixed)?;
        let (magic, rest) = fixed.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(StreamError::NotSealed);
        }
        let [format, v0, v1, v2, v3, n0, n1] = rest else {
            return Err(StreamError::NotSealed);
        };
        if *format != FORMAT {
            return Err(StreamError::NewerFormat(*format));
        }
        let version = u32::from_be_bytes([*v0, *v1, *v2, *v3]);
        let n_wrapped = usize::from(u16::from_be_bytes([*n0, *n1]));
        if n_wrapped > WRAPPED_MAX {
            return Err(StreamError::NotSealed);
        }
        let mut wrapped = vec![0; n_wrapped];
        read(from, &mut wrapped)?;
        let mut salt = [0; SALT_BYTES];
        read(from, &mut salt)?;
        let mut preamble = fixed.to_vec();
        preamble.extend(&wrapped);
        Ok(Header { preamble, version, wrapped, salt })
    }

    /// The bytes of the header, and what seals the chunks.
    pub(super) fn seal(&self, key: &KeyBytes) -> (Vec<u8>, Chunks) {
        let (key, check) = self.derive(key);
        let mut bytes = self.preamble.clone();
        bytes.extend(self.salt);
        bytes.extend(check);
        (bytes, Chunks::new(&key))
    }

    /// Reads the key check, and returns what opens the chunks.
    pub(super) fn open(&self, from: &mut impl Read, key: &KeyBytes) -> Result<Chunks, StreamError> {
        let mut found = [0; CHECK_BYTES];
        read(from, &mut found)?;
        let (key, check) = self.derive(key);
        if bool::from(check.ct_eq(&found)) {
            Ok(Chunks::new(&key))
        } else {
            Err(StreamError::WrongKey)
        }
    }

    /// The key of the chunks and the key check.
    fn derive(&self, key: &KeyBytes) -> (KeyBytes, [u8; CHECK_BYTES]) {
        let mut output = Zeroizing::new([0; KEY_BYTES + CHECK_BYTES]);
        let hkdf = Hkdf::<Sha256>::new(Some(&self.salt), key.as_slice());
        let info = [b"activekg sealed stream ".as_slice(), &self.preamble];
        hkdf.expand_multi_info(&info, output.as_mut_slice())
            .expect("48 bytes are fewer than the 8160 that HKDF-SHA256 can give");
        let (mut derived, mut check) = (KeyBytes::default(), [0; CHECK_BYTES]);
        derived.copy_from_slice(&output[..KEY_BYTES]);
        check.copy_from_slice(&output[KEY_BYTES..]);
        (derived, check)
    }
}

/// A header that ends early is none.
fn read(from: &mut impl Read, bytes: &mut [u8]) -> Result<(), StreamError> {
    from.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => StreamError::NotSealed,
        _ => StreamError::Io(error),
    })
}
