//! Settings of the extraction of props, which this version does not do.

use clap::Args;

/// The extraction of props from texts.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Embedding")]
pub struct ExtractionOptions {
    /// Accepted and ignored: no props are extracted from texts by a language model
    #[arg(long, env = "EXTRACTION_ENABLED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub extraction_enabled: Option<String>,
}
