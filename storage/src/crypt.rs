//! Secrets: the keys that seal them, sealed text for the fields of rows, sealed streams for files.
//!
//! Keys and what was opened with them have neither `Debug` nor `Display`, cannot be serialized, and
//! are zeroed when dropped. What is sealed is stored as text beside the version of its key, so a
//! row sealed long ago opens as long as that key is loaded; [`rotate`] seals it again with the
//! active one.

pub mod fields;
mod key;
mod ring;
pub mod rotate;
mod secret;
mod stream;
mod usage;

pub use key::{InvalidKey, Kek, generate_key};
pub use ring::{DecryptionFailed, KeyRing, Opened, RingError, Sealed, is_sealed};
pub use secret::Secret;
pub use stream::{CHUNK_BYTES, OpenReader, SealWriter, StreamError, StreamKey};
pub use usage::{KeyUsage, unopened, usage};
