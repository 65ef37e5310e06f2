//! Values: how records become bytes. The only file that knows the encoding.
//!
//! A value is one format byte, four bytes of CRC-32C (little-endian) and the body. The checksum
//! covers the key, the format byte and the body, so that a value found under another key, or with
//! any bit flipped, is an error and never a wrong answer.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::serde::{BorrowCompat, Compat};
use serde::de::{DeserializeOwned, Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Largest encoded value, in bytes. What is larger belongs in a file of its own.
pub const VALUE_MAX: usize = 64 << 20;

/// Largest encoded key, in bytes.
pub const KEY_MAX: usize = 64 << 10;

/// Format byte and checksum.
const HEADER: usize = 5;

const CONFIG: Configuration<LittleEndian, Varint, Limit<VALUE_MAX>> =
    bincode::config::standard().with_limit::<VALUE_MAX>();

/// Largest small body, in bytes.
const SMALL: usize = 4 << 10;

/// For small bodies: a text in one may claim a length, and gets the memory for it, before it is
/// found to be cut short. No honest byte counts for more than the 16 of the widest integer.
const SMALL_CONFIG: Configuration<LittleEndian, Varint, Limit<{ 16 * SMALL }>> =
    bincode::config::standard().with_limit::<{ 16 * SMALL }>();

/// A value kept in a table.
pub trait Record: Serialize + DeserializeOwned {
    /// Changes with the encoded shape; a bump comes with a migration.
    const FORMAT: u8;

    /// The version of the key that opens what is sealed in it, if anything is.
    fn key_version(&self) -> Option<u32> {
        None
    }
}

/// A record read for little of what is in it: of the same shape as the record, with a
/// [`SkippedText`] for each text that is of no interest, so that nothing is allocated.
pub trait Glance: DeserializeOwned {
    /// The record.
    type Of: Record;
}

/// A text that is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkippedText;

impl<'de> Deserialize<'de> for SkippedText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Skip;

        impl Visitor<'_> for Skip {
            type Value = SkippedText;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<SkippedText, E> {
                Ok(SkippedText)
            }
        }

        from.deserialize_str(Skip)
    }
}

/// Keys that say all there is to say.
impl Record for () {
    const FORMAT: u8 = 1;
}

impl Record for u64 {
    const FORMAT: u8 = 1;
}

/// Why bytes are not the record they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidValue {
    #[error("{0} bytes are too few for a value")]
    Short(usize),
    #[error("format {found} where {expected} is known")]
    Format { found: u8, expected: u8 },
    #[error("checksum does not match")]
    Checksum,
    #[error("{0}")]
    Body(String),
    #[error("{0} bytes too many")]
    Trailing(usize),
}

/// The bytes of `record` as stored under `key`. Fails only for records that serde cannot write.
pub(crate) fn encode<V: Record>(key: &[u8], record: &V) -> Result<Vec<u8>, InvalidValue> {
    let mut bytes = Vec::with_capacity(128);
    bytes.push(V::FORMAT);
    bytes.extend_from_slice(&[0; HEADER - 1]);
    bincode::encode_into_std_write(Compat(record), &mut bytes, CONFIG)
        .map_err(|error| InvalidValue::Body(error.to_string()))?;
    let sum = checksum(key, V::FORMAT, &bytes[HEADER..]);
    bytes[1..HEADER].copy_from_slice(&sum.to_le_bytes());
    Ok(bytes)
}

/// The format and the body in `bytes`, found under `key`: whether the checksum fits, whatever the
/// format.
pub(crate) fn open<'a>(key: &[u8], bytes: &'a [u8]) -> Result<(u8, &'a [u8]), InvalidValue> {
    let Some((&[format, ref sum @ ..], body)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(InvalidValue::Short(bytes.len()));
    };
    if checksum(key, format, body) != u32::from_le_bytes(*sum) {
        return Err(InvalidValue::Checksum);
    }
    Ok((format, body))
}

/// The record that `bytes`, found under `key`, hold.
pub(crate) fn decode<V: Record>(key: &[u8], bytes: &[u8]) -> Result<V, InvalidValue> {
    let body = body::<V>(key, bytes)?;
    let decoded = if body.len() <= SMALL {
        bincode::decode_from_slice::<Compat<V>, _>(body, SMALL_CONFIG)
    } else {
        bincode::decode_from_slice::<Compat<V>, _>(body, CONFIG)
    };
    let (Compat(record), read) = decoded.map_err(|error| InvalidValue::Body(error.to_string()))?;
    whole(body, read)?;
    Ok(record)
}

/// [`decode`] for a glance.
pub(crate) fn glance<G: Glance>(key: &[u8], bytes: &[u8]) -> Result<G, InvalidValue> {
    let body = body::<G::Of>(key, bytes)?;
    // Borrowing: a text in the bytes is looked at there, and not copied to be looked at.
    let decoded = bincode::borrow_decode_from_slice::<BorrowCompat<G>, _>(body, CONFIG);
    let (BorrowCompat(seen), read) =
        decoded.map_err(|error| InvalidValue::Body(error.to_string()))?;
    whole(body, read)?;
    Ok(seen)
}

/// The body of a record.
fn body<'a, V: Record>(key: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], InvalidValue> {
    let (format, body) = open(key, bytes)?;
    // After the checksum, so that damage is called damage and not a format from the future.
    if format != V::FORMAT {
        return Err(InvalidValue::Format { found: format, expected: V::FORMAT });
    }
    Ok(body)
}

/// Whether as much was read as there is.
fn whole(body: &[u8], read: usize) -> Result<(), InvalidValue> {
    if read < body.len() {
        return Err(InvalidValue::Trailing(body.len() - read));
    }
    Ok(())
}

fn checksum(key: &[u8], format: u8, body: &[u8]) -> u32 {
    let sum = crc32c::crc32c(key);
    let sum = crc32c::crc32c_append(sum, &[format]);
    crc32c::crc32c_append(sum, body)
}

/// `#[serde(with = "bytes")]` for `Vec<u8>`: one copy instead of a call for every byte.
pub(crate) mod bytes {
    use std::fmt;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_byte_buf(Bytes)
    }

    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }
    }
}

/// `#[serde(with = "floats")]` for `Vec<f32>`: four little-endian bytes each, bit for bit.
pub(crate) mod floats {
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(values: &[f32], to: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        to.serialize_bytes(&bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f32>, D::Error> {
        let bytes = super::bytes::deserialize(from)?;
        let (values, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(D::Error::custom("a vector's bytes are not a multiple of four"));
        }
        Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Sample {
        name: String,
        tags: Vec<String>,
        score: Option<f64>,
        count: u64,
        #[serde(with = "bytes")]
        payload: Vec<u8>,
        #[serde(with = "floats")]
        vector: Vec<f32>,
    }

    impl Record for Sample {
        const FORMAT: u8 = 3;
    }

    fn sample() -> impl Strategy<Value = Sample> {
        (
            ".{0,8}",
            prop::collection::vec(".{0,4}", 0..3),
            prop::option::of(-1e9..1e9f64),
            any::<u64>(),
            prop::collection::vec(any::<u8>(), 0..20),
            prop::collection::vec(-1.0..1.0f32, 0..5),
        )
            .prop_map(|(name, tags, score, count, payload, vector)| Sample {
                name,
                tags,
                score,
                count,
                payload,
                vector,
            })
    }

    proptest! {
        #[test]
        fn round_trip(key in prop::collection::vec(any::<u8>(), 0..20), value in sample()) {
            let bytes = encode(&key, &value).unwrap();
            prop_assert_eq!(decode::<Sample>(&key, &bytes), Ok(value));
        }

        #[test]
        fn any_flipped_bit_is_an_error(
            key in prop::collection::vec(any::<u8>(), 1..20),
            value in sample(),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let bytes = encode(&key, &value).unwrap();
            let mut damaged = bytes.clone();
            damaged[at.index(bytes.len())] ^= 1 << bit;
            prop_assert!(decode::<Sample>(&key, &damaged).is_err());
            let mut moved = key.clone();
            moved[at.index(key.len())] ^= 1 << bit;
            prop_assert_eq!(decode::<Sample>(&moved, &bytes), Err(InvalidValue::Checksum));
        }

        #[test]
        fn any_truncation_is_an_error(value in sample(), cut in any::<prop::sample::Index>()) {
            let bytes = encode(b"key", &value).unwrap();
            prop_assert!(decode::<Sample>(b"key", &bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn random_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(decode::<Sample>(b"key", &bytes).is_err());
        }

        // A body that passes its checksum still comes from disk: it must not panic, and it must
        // not make the decoder allocate what a length in it claims.
        #[test]
        fn random_bodies_do_not_panic(body in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut bytes = vec![Sample::FORMAT];
            bytes.extend(checksum(b"key", Sample::FORMAT, &body).to_le_bytes());
            bytes.extend(&body);
            if let Ok(value) = decode::<Sample>(b"key", &bytes) {
                prop_assert!(value.payload.len() <= body.len());
            }
        }
    }

    #[test]
    fn another_format_is_named() {
        let bytes = encode(b"key", &7u64).unwrap();
        let error = decode::<Sample>(b"key", &bytes).unwrap_err();
        assert_eq!(error, InvalidValue::Format { found: 1, expected: 3 });
    }

    #[test]
    fn trailing_bytes_are_an_error() {
        let mut body = bincode::encode_to_vec(Compat(7u64), CONFIG).unwrap();
        body.push(0);
        let mut bytes = vec![u64::FORMAT];
        bytes.extend(checksum(b"key", u64::FORMAT, &body).to_le_bytes());
        bytes.extend(&body);
        assert_eq!(decode::<u64>(b"key", &bytes), Err(InvalidValue::Trailing(1)));
    }
}
