//! How files become documents.

use std::time::Duration;

use super::options::DocumentOptions;
use super::{ConfigError, read};

/// Half a gigabyte: a parser holds a file, what it unpacks to and what it makes of that.
const MEMORY_BYTES: u64 = 512 << 20;

/// How files become documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Documents {
    /// Characters in a chunk at most.
    pub chunk_max_chars: usize,
    /// Characters that a chunk repeats of the one before; at most half of a chunk.
    pub chunk_overlap_chars: usize,
    /// Longest time for reading a file.
    pub extract_timeout: Duration,
    /// Memory for reading a file, in bytes.
    pub extract_memory_bytes: u64,
    /// What a packed file may unpack to, in bytes.
    pub extract_expanded_bytes: u64,
    /// Longest text of the files of one upload, in bytes.
    pub extract_text_bytes: u64,
}

impl Documents {
    pub(super) fn new(options: &DocumentOptions) -> Result<Self, ConfigError> {
        let DocumentOptions {
            chunk_max_chars,
            chunk_overlap_chars,
            extract_timeout_seconds,
            extract_max_memory_bytes,
            extract_max_expanded_bytes,
            extract_max_text_bytes,
        } = options;
        let max = read::number("CHUNK_MAX_CHARS", chunk_max_chars, 100..=100_000)?;
        let max: usize = max.unwrap_or(8000);
        let overlap = read::number("CHUNK_OVERLAP_CHARS", chunk_overlap_chars, 0..=max / 2)?;
        let seconds = read::number("EXTRACT_TIMEOUT_SECONDS", extract_timeout_seconds, 1..=3600)?;
        // Below 64 MiB not even small files can be read; above a terabyte there is no limit.
        let bytes = |setting, raw, least: u64| read::number(setting, raw, least..=1 << 40);
        let memory = bytes("EXTRACT_MAX_MEMORY_BYTES", extract_max_memory_bytes, 64 << 20)?;
        let expanded = bytes("EXTRACT_MAX_EXPANDED_BYTES", extract_max_expanded_bytes, 1 << 10)?;
        // All texts of an upload are in memory at once, and in one change of the store.
        let text =
            read::number("EXTRACT_MAX_TEXT_BYTES", extract_max_text_bytes, 1 << 10..=256 << 20)?;
        Ok(Self {
            chunk_max_chars: max,
            chunk_overlap_chars: overlap.unwrap_or(500.min(max / 2)),
            extract_timeout: Duration::from_secs(seconds.unwrap_or(30)),
            extract_memory_bytes: memory.unwrap_or(MEMORY_BYTES),
            extract_expanded_bytes: expanded.unwrap_or(128 << 20),
            extract_text_bytes: text.unwrap_or(16 << 20),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};

    #[test]
    fn chunks_never_repeat_more_than_half_of_themselves() {
        let small = config(&[("CHUNK_MAX_CHARS", "300")]).unwrap().documents;
        assert_eq!((small.chunk_max_chars, small.chunk_overlap_chars), (300, 150));
        let set = [("CHUNK_MAX_CHARS", "300"), ("CHUNK_OVERLAP_CHARS", "151")];
        assert_eq!(fault(&set), "CHUNK_OVERLAP_CHARS: \"151\" is not a number from 0 to 150");
        assert!(fault(&[("CHUNK_MAX_CHARS", "99")]).starts_with("CHUNK_MAX_CHARS: "));
        assert!(fault(&[("EXTRACT_MAX_MEMORY_BYTES", "1000")]).starts_with("EXTRACT_MAX_MEMORY"));
        assert!(fault(&[("EXTRACT_TIMEOUT_SECONDS", "0")]).starts_with("EXTRACT_TIMEOUT_SECONDS"));
    }
}
