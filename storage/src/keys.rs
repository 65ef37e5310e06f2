//! Keys: tuples whose bytes sort as the tuples do.
//!
//! Each component ends where its own bytes say so, hence a shorter tuple is a byte prefix of every
//! longer one that begins with it, and components never compare across their borders. Texts end in
//! `00 01` and write a NUL inside as `00 FF`; integers are big-endian, signed ones with the sign
//! bit flipped; ids are their 16 bytes.

use crate::ids::{EventId, JobId, NodeId, Seq, TenantId};
use crate::time::UnixMicros;

/// A key of a table, or one component of it.
pub trait Key: Sized + Clone {
    /// A tenant is a part of it.
    const TENANT: bool = false;

    /// Appends the bytes.
    fn encode(&self, out: &mut Vec<u8>);

    /// Takes one key off the front of `bytes`.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] if the bytes are not what [`Key::encode`] writes.
    fn decode(bytes: &mut &[u8]) -> Result<Self, InvalidKey>;
}

/// A tuple of the first components of `K`, or `K` itself.
pub trait PrefixOf<K>: Key {}

/// Bytes that are no key of the table they were found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid key")]
pub struct InvalidKey;

/// The bytes of a key.
pub fn to_bytes(key: &impl Key) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    key.encode(&mut out);
    out
}

/// Reads a whole key.
///
/// # Errors
///
/// [`InvalidKey`] if `bytes` are not one key and nothing else.
pub fn from_bytes<K: Key>(mut bytes: &[u8]) -> Result<K, InvalidKey> {
    let key = K::decode(&mut bytes)?;
    if bytes.is_empty() { Ok(key) } else { Err(InvalidKey) }
}

/// The first byte string after every one that begins with `prefix`; `None` if there is none.
pub(crate) fn after_prefix(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return Some(prefix);
        }
        prefix.pop();
    }
    None
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], InvalidKey> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(InvalidKey)?;
    *bytes = rest;
    Ok(*head)
}

pub(crate) fn encode_text(text: &str, out: &mut Vec<u8>) {
    if text.contains('\0') {
        for &byte in text.as_bytes() {
            out.push(byte);
            if byte == 0 {
                out.push(0xFF);
            }
        }
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(&[0, 1]);
}

fn decode_text(bytes: &mut &[u8]) -> Result<String, InvalidKey> {
    let mut text = Vec::new();
    loop {
        let nul = bytes.iter().position(|&b| b == 0).ok_or(InvalidKey)?;
        text.extend_from_slice(&bytes[..nul]);
        let mark = bytes.get(nul + 1).copied();
        *bytes = bytes.get(nul + 2..).unwrap_or_default();
        match mark {
            Some(0x01) => return String::from_utf8(text).map_err(|_| InvalidKey),
            Some(0xFF) => text.push(0),
            _ => return Err(InvalidKey),
        }
    }
}

impl Key for String {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(self, out);
    }

    fn decode(bytes: &mut &[u8]) -> Result<String, InvalidKey> {
        decode_text(bytes)
    }
}

impl Key for TenantId {
    const TENANT: bool = true;

    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(self.as_str(), out);
    }

    fn decode(bytes: &mut &[u8]) -> Result<TenantId, InvalidKey> {
        TenantId::stored(&decode_text(bytes)?).map_err(|_| InvalidKey)
    }
}

macro_rules! unsigned_key {
    ($($number:ty),*) => {$(
        impl Key for $number {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn decode(bytes: &mut &[u8]) -> Result<$number, InvalidKey> {
                take(bytes).map(<$number>::from_be_bytes)
            }
        }
    )*};
}

unsigned_key!(u8, u16, u32, u64);

impl Key for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.cast_unsigned() ^ (1 << 63)).encode(out);
    }

    fn decode(bytes: &mut &[u8]) -> Result<i64, InvalidKey> {
        u64::decode(bytes).map(|flipped| (flipped ^ (1 << 63)).cast_signed())
    }
}

impl Key for UnixMicros {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(bytes: &mut &[u8]) -> Result<UnixMicros, InvalidKey> {
        i64::decode(bytes).map(UnixMicros)
    }
}

impl Key for Seq {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(bytes: &mut &[u8]) -> Result<Seq, InvalidKey> {
        u64::decode(bytes).map(Seq)
    }
}

macro_rules! uuid_key {
    ($($id:ty),*) => {$(
        impl Key for $id {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.as_u128().to_be_bytes());
            }

            fn decode(bytes: &mut &[u8]) -> Result<$id, InvalidKey> {
                take(bytes).map(|bytes| <$id>::from_u128(u128::from_be_bytes(bytes)))
            }
        }
    )*};
}

uuid_key!(NodeId, EventId, JobId);

macro_rules! tuple_key {
    ($($part:ident . $index:tt),+) => {
        impl<$($part: Key),+> Key for ($($part,)+) {
            const TENANT: bool = $($part::TENANT)||+;

            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$index.encode(out);)+
            }

            fn decode(bytes: &mut &[u8]) -> Result<Self, InvalidKey> {
                Ok(($($part::decode(bytes)?,)+))
            }
        }
    };
}

tuple_key!(A.0);
tuple_key!(A.0, B.1);
tuple_key!(A.0, B.1, C.2);
tuple_key!(A.0, B.1, C.2, D.3);
tuple_key!(A.0, B.1, C.2, D.3, E.4);

/// `[A, B] [C]`: `(A, B)` is a prefix of `(A, B, C)`.
macro_rules! prefix_of {
    ($([$($part:ident),+] [$($rest:ident),*];)*) => {$(
        impl<$($part: Key,)+ $($rest: Key,)*> PrefixOf<($($part,)+ $($rest,)*)> for ($($part,)+) {}
    )*};
}

prefix_of! {
    [A] [];
    [A] [B];
    [A] [B, C];
    [A] [B, C, D];
    [A] [B, C, D, E];
    [A, B] [];
    [A, B] [C];
    [A, B] [C, D];
    [A, B] [C, D, E];
    [A, B, C] [];
    [A, B, C] [D];
    [A, B, C] [D, E];
    [A, B, C, D] [];
    [A, B, C, D] [E];
    [A, B, C, D, E] [];
}

/// A component alone stands for the tuple of it: `&tenant` is as good as `&(tenant.clone(),)`.
macro_rules! lone_prefix {
    ($($part:ty),*) => {$(
        impl PrefixOf<$part> for $part {}
        impl PrefixOf<($part,)> for $part {}
        impl<B: Key> PrefixOf<($part, B)> for $part {}
        impl<B: Key, C: Key> PrefixOf<($part, B, C)> for $part {}
        impl<B: Key, C: Key, D: Key> PrefixOf<($part, B, C, D)> for $part {}
        impl<B: Key, C: Key, D: Key, E: Key> PrefixOf<($part, B, C, D, E)> for $part {}
    )*};
}

lone_prefix!(TenantId, String, NodeId, EventId, JobId, Seq, UnixMicros, u64);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        // Mostly the characters the escaping is about, so that borders are hit.
        prop::collection::vec(
            prop_oneof![Just('\0'), Just('\u{1}'), Just('a'), Just('\u{ff}'), any::<char>()],
            0..5,
        )
        .prop_map(String::from_iter)
    }

    fn tenant() -> impl Strategy<Value = TenantId> {
        prop_oneof![
            Just(TenantId::shared()),
            "[a-c]{1,3}".prop_map(|name| TenantId::new(&name).unwrap()),
        ]
    }

    type Full = (TenantId, String, UnixMicros, NodeId, u64);

    fn tuple() -> impl Strategy<Value = Full> {
        let small = prop_oneof![-2i64..2, any::<i64>()].prop_map(UnixMicros);
        let node = prop_oneof![0u128..3, any::<u128>()].prop_map(NodeId::from_u128);
        let number = prop_oneof![0u64..3, any::<u64>()];
        (tenant(), text(), small, node, number)
    }

    proptest! {
        #[test]
        fn bytes_sort_as_tuples(a in tuple(), b in tuple()) {
            prop_assert_eq!(to_bytes(&a).cmp(&to_bytes(&b)), a.cmp(&b));
        }

        #[test]
        fn round_trip(key in tuple()) {
            prop_assert_eq!(from_bytes::<Full>(&to_bytes(&key)), Ok(key));
        }

        #[test]
        fn shorter_tuples_are_prefixes(key in tuple(), other in tuple()) {
            let prefix = (key.0.clone(), key.1.clone());
            let bytes = to_bytes(&prefix);
            prop_assert!(to_bytes(&key).starts_with(&bytes));
            let belongs = other.0 == key.0 && other.1 == key.1;
            prop_assert_eq!(to_bytes(&other).starts_with(&bytes), belongs);
            // The range from a prefix to its end holds what begins with it and nothing else.
            let end = after_prefix(bytes.clone());
            let other = to_bytes(&other);
            let inside = other >= bytes && end.is_none_or(|end| other < end);
            prop_assert_eq!(inside, belongs);
        }

        #[test]
        fn any_bytes_decode_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(key) = from_bytes::<Full>(&bytes) {
                prop_assert_eq!(to_bytes(&key), bytes);
            }
        }

        #[test]
        fn truncated_keys_fail(key in tuple(), cut in any::<prop::sample::Index>()) {
            let bytes = to_bytes(&key);
            let cut = cut.index(bytes.len());
            prop_assert_eq!(from_bytes::<Full>(&bytes[..cut]), Err(InvalidKey));
        }
    }

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(after_prefix(vec![1, 2]), Some(vec![1, 3]));
        assert_eq!(after_prefix(vec![1, 0xFF, 0xFF]), Some(vec![2]));
        assert_eq!(after_prefix(vec![0xFF]), None);
        assert_eq!(after_prefix(Vec::new()), None);
    }
}
