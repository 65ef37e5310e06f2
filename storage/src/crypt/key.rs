//! Keys as text: 32 bytes in URL-safe base64, which is 44 characters with the padding.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use fernet::Fernet;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::Secret;
use crate::time::UnixMicros;

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;

/// Characters of a key.
const KEY_CHARS: usize = 44;

/// The bytes of a key.
pub(super) type KeyBytes = Zeroizing<[u8; KEY_BYTES]>;

/// Why a text is not a key. Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// Too short or too long.
    #[error(
        "a key has {KEY_CHARS} characters (activekg keys generate makes one), this has {found}"
    )]
    Length {
        /// Characters there are.
        found: usize,
    },
    /// Some character does not belong.
    #[error("a key is URL-safe base64 (A-Z a-z 0-9 - _ and one = at the end), this is not")]
    Characters,
}

/// Reads a key.
pub(super) fn parse(text: &str) -> Result<KeyBytes, InvalidKey> {
    let found = text.chars().count();
    if found != KEY_CHARS {
        return Err(InvalidKey::Length { found });
    }
    // One byte of room more than a key: the decoder wants what 44 characters could hold at most.
    let mut room = Zeroizing::new([0; KEY_BYTES + 1]);
    match URL_SAFE.decode_slice(text, room.as_mut_slice()) {
        Ok(KEY_BYTES) => {
            let mut key = KeyBytes::default();
            key.copy_from_slice(&room[..KEY_BYTES]);
            Ok(key)
        }
        Ok(_) | Err(_) => Err(InvalidKey::Characters),
    }
}

/// Writes a key.
pub(super) fn format(key: &KeyBytes) -> Secret {
    let mut text = vec![0; KEY_CHARS];
    let length = URL_SAFE.encode_slice(key.as_slice(), &mut text);
    debug_assert_eq!(length, Ok(KEY_CHARS));
    Secret::new(text)
}

/// Makes a key.
///
/// # Errors
///
/// When the system gives no random bytes.
pub(super) fn random() -> std::io::Result<KeyBytes> {
    let mut key = KeyBytes::default();
    getrandom::fill(key.as_mut_slice())?;
    Ok(key)
}

/// A new random key as text.
///
/// # Errors
///
/// When the system gives no random bytes.
pub fn generate_key() -> std::io::Result<Secret> {
    Ok(format(&random()?))
}

/// A key that encrypts keys and secrets: one of a [`KeyRing`](super::KeyRing). Clones share one copy
/// in memory.
#[derive(Clone)]
pub struct Kek(Arc<Inner>);

struct Inner {
    bytes: KeyBytes,
    fernet: Fernet,
}

impl Kek {
    /// Reads a key of 44 characters, as `activekg keys generate` prints it.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`], which does not repeat the text.
    pub fn parse(text: &str) -> Result<Kek, InvalidKey> {
        let bytes = parse(text)?;
        let fernet = Fernet::new(text).ok_or(InvalidKey::Characters)?;
        Ok(Kek(Arc::new(Inner { bytes, fernet })))
    }

    /// Whether `other` is the same key.
    #[must_use]
    pub fn is(&self, other: &Kek) -> bool {
        self.0.bytes.ct_eq(other.0.bytes.as_slice()).into()
    }

    /// A Fernet token; `now` is written into it.
    pub(super) fn seal(&self, plaintext: &[u8], now: UnixMicros) -> String {
        // A token of a later second would not begin as every token does.
        const SECONDS_MAX: u64 = (1 << 36) - 1;
        let seconds = u64::try_from(now.get() / 1_000_000).unwrap_or(0).min(SECONDS_MAX);
        self.0.fernet.encrypt_at_time(plaintext, seconds)
    }

    /// Opens a token, whenever it was made: a machine whose clock is behind must get at its secrets.
    pub(super) fn open(&self, token: &str) -> Option<Secret> {
        /// The latest instant that the crate can compare without overflow.
        const END_OF_TIME: u64 = u64::MAX - 60;
        self.0.fernet.decrypt_at_time(token, None, END_OF_TIME).ok().map(Secret::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn keys_are_32_bytes_as_text() {
        let key = parse(KEY).unwrap();
        assert!(key.iter().copied().eq(0..32));
        assert_eq!(format(&key).reveal_text(), Some(KEY));
        let [one, other] = [(); 2].map(|()| generate_key().unwrap());
        let [one, other] =
            [&one, &other].map(|key| Kek::parse(key.reveal_text().unwrap()).unwrap());
        assert!(one.is(&one) && !one.is(&other));
    }

    #[test]
    fn other_texts_are_no_keys() {
        let short = parse(&KEY[1..]).map(drop).unwrap_err();
        assert_eq!(short, InvalidKey::Length { found: 43 });
        assert_eq!(parse("").map(drop), Err(InvalidKey::Length { found: 0 }));
        for wrong in [
            KEY.replace('A', "+"),
            KEY.replace('=', "A"),
            KEY.replace('=', " "),
            // Bits that no byte has are set.
            KEY.replace("8=", "9="),
            "=".repeat(44),
            "é".repeat(44),
        ] {
            assert_eq!(parse(&wrong).map(drop), Err(InvalidKey::Characters), "{wrong}");
        }
        assert!(!InvalidKey::Characters.to_string().contains(KEY));
    }
}
