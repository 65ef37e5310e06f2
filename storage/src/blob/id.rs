//! The name of a blob: the SHA-256 of its bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ids::InvalidId;
use crate::keys::{InvalidKey, Key};

/// The SHA-256 of a blob's bytes. Prints as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId([u8; 32]);

impl BlobId {
    /// The id with these bytes.
    #[must_use]
    pub const fn new(sha256: [u8; 32]) -> BlobId {
        BlobId(sha256)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Lower case only: a blob has one name.
impl FromStr for BlobId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<BlobId, InvalidId> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return Err(InvalidId);
        }
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(InvalidId),
        };
        let mut id = [0; 32];
        for (byte, [high, low]) in id.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Ok(BlobId(id))
    }
}

impl Key for BlobId {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn decode(bytes: &mut &[u8]) -> Result<BlobId, InvalidKey> {
        let (id, rest) = bytes.split_first_chunk().ok_or(InvalidKey)?;
        *bytes = rest;
        Ok(BlobId(*id))
    }
}

/// Text where people read it, 32 bytes in the store.
impl Serialize for BlobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for BlobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BlobId, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(BlobId)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys;

    proptest! {
        #[test]
        fn text_and_keys_round_trip(bytes: [u8; 32], other: [u8; 32]) {
            let (id, other) = (BlobId::new(bytes), BlobId::new(other));
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(keys::from_bytes::<(BlobId,)>(&keys::to_bytes(&(id,))), Ok((id,)));
            prop_assert_eq!(keys::to_bytes(&(id,)).cmp(&keys::to_bytes(&(other,))), id.cmp(&other));
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<BlobId>(&json).unwrap(), id);
        }
    }

    #[test]
    fn other_texts_are_no_ids() {
        let good = "0123456789abcdef".repeat(4);
        assert!(good.parse::<BlobId>().is_ok());
        for bad in [&good[1..], &format!("{good}0"), &good.to_uppercase(), &good.replace('0', "g")]
        {
            assert_eq!(bad.parse::<BlobId>(), Err(InvalidId));
        }
    }
}
