//! The frame around the parts of an archive: the headers of a tar file, so that `tar` can list and
//! unpack it.
//!
//! What is read must be exactly what would be written for the same name, size and time: an archive
//! has no byte that may change unnoticed.

/// Headers, and the space that parts are padded to, in bytes.
pub(crate) const BLOCK: usize = 512;

/// Longest name of a part, in bytes.
pub(crate) const NAME_MAX: usize = 99;

/// Largest part, in bytes: what eleven octal digits say.
pub(crate) const SIZE_MAX: u64 = (1 << 33) - 1;

/// The block after the last part, written twice.
pub(crate) const END: [u8; BLOCK] = [0; BLOCK];

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// Relative path: lower-case letters, digits and `._-/`, none of its components empty or dots.
    pub(crate) name: String,
    /// Bytes of the part.
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) modified: u64,
}

impl Header {
    /// The header's block; `None` if the name or a number does not fit into one.
    pub(crate) fn encode(&self) -> Option<[u8; BLOCK]> {
        let Header { name, size, modified } = self;
        if !is_name(name) || *size > SIZE_MAX || *modified > SIZE_MAX {
            return None;
        }
        let mut block = [0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        let mut field = |at: usize, text: &str| {
            block[at..at + text.len()].copy_from_slice(text.as_bytes());
        };
        field(100, "0000600\0"); // mode
        field(108, "0000000\0"); // owner
        field(116, "0000000\0"); // group
        field(124, &format!("{size:011o}\0"));
        field(136, &format!("{modified:011o}\0"));
        field(148, "        "); // counts as spaces in its own sum
        field(156, "0"); // a plain file
        field(257, "ustar\0");
        field(263, "00");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        Some(block)
    }

    /// The header in a block, `None` at the end of the parts.
    pub(crate) fn decode(block: &[u8; BLOCK]) -> Result<Option<Header>, &'static str> {
        if *block == END {
            return Ok(None);
        }
        let name = block[..=NAME_MAX].split(|byte| *byte == 0).next().unwrap_or_default();
        let name = std::str::from_utf8(name).map_err(|_| "its name is not text")?;
        let (size, modified) = (octal(&block[124..135]), octal(&block[136..147]));
        let (Some(size), Some(modified)) = (size, modified) else {
            return Err("a number in its header is none");
        };
        let header = Header { name: name.to_owned(), size, modified };
        match header.encode() {
            Some(expected) if expected == *block => Ok(Some(header)),
            Some(_) => Err("its header is not one that a backup has"),
            None => Err("its name is not one that a backup has"),
        }
    }
}

/// Zeros after a part of `size` bytes.
pub(crate) fn padding(size: u64) -> usize {
    let over = (size % BLOCK as u64) as usize;
    if over == 0 { 0 } else { BLOCK - over }
}

fn is_name(name: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let component = |part: &str| {
        !part.is_empty() && part.bytes().all(plain) && part.bytes().any(|byte| byte != b'.')
    };
    name.len() <= NAME_MAX && name.split('/').all(component)
}

fn octal(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> impl Strategy<Value = Header> {
        let name = "[a-z0-9_-]{1,9}(/[a-z0-9._-]{0,20}[a-z]){0,3}";
        (name, 0..=SIZE_MAX, 0..=SIZE_MAX).prop_map(|(name, size, modified)| Header {
            name,
            size,
            modified,
        })
    }

    proptest! {
        #[test]
        fn round_trip(header in header()) {
            let block = header.encode().unwrap();
            prop_assert_eq!(Header::decode(&block), Ok(Some(header)));
        }

        #[test]
        fn a_flipped_bit_is_another_header_or_none(header in header(), at in 0..BLOCK, bit in 0u8..8) {
            let mut block = header.encode().unwrap();
            block[at] ^= 1 << bit;
            // The sum of a header finds every single flip.
            prop_assert!(Header::decode(&block).is_err());
        }

        #[test]
        fn random_blocks_do_not_panic(block in prop::collection::vec(any::<u8>(), BLOCK)) {
            let block: [u8; BLOCK] = block.try_into().unwrap();
            prop_assert!(Header::decode(&block).is_err());
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/.", "A", "a b", "a\0b"] {
            let header = Header { name: name.to_owned(), size: 1, modified: 1 };
            assert_eq!(header.encode(), None, "{name}");
        }
        let long = Header { name: "n".repeat(NAME_MAX + 1), size: 1, modified: 1 };
        assert_eq!(long.encode(), None);
    }

    #[test]
    fn parts_end_at_a_block() {
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
    }
}
