//! Settings of how files become documents.

use clap::Args;

/// Files.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Documents")]
pub struct DocumentOptions {
    /// Characters in a chunk of a document at most, 100 to 100000 [default: 8000]
    #[arg(long, env = "CHUNK_MAX_CHARS", value_name = "N")]
    pub chunk_max_chars: Option<String>,
    /// Characters that a chunk repeats of the one before, at most half a chunk [default: 500]
    #[arg(long, env = "CHUNK_OVERLAP_CHARS", value_name = "N")]
    pub chunk_overlap_chars: Option<String>,
    /// Longest time for reading a file [default: 30]
    #[arg(long, env = "EXTRACT_TIMEOUT_SECONDS", value_name = "SECONDS")]
    pub extract_timeout_seconds: Option<String>,
    /// Memory for reading a PDF, an office file or a mail [default: 536870912]
    #[arg(long, env = "EXTRACT_MAX_MEMORY_BYTES", value_name = "BYTES")]
    pub extract_max_memory_bytes: Option<String>,
    /// What an office file may unpack to [default: 134217728]
    #[arg(long, env = "EXTRACT_MAX_EXPANDED_BYTES", value_name = "BYTES")]
    pub extract_max_expanded_bytes: Option<String>,
    /// Longest text of the files of one upload together [default: 16777216]
    #[arg(long, env = "EXTRACT_MAX_TEXT_BYTES", value_name = "BYTES")]
    pub extract_max_text_bytes: Option<String>,
}
