//! `activekg extract-text`: what the server runs to read a file it does not trust.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use crate::documents::{self, guard::child};

/// Read one file on the standard input, for the server
#[derive(Args)]
pub(super) struct ExtractArgs {
    /// What the file is
    kind: String,
    /// Processor time, in seconds
    seconds: u64,
    /// Memory
    memory_bytes: u64,
    /// What the file may unpack to
    expanded_bytes: u64,
    /// Longest text
    text_bytes: u64,
}

pub(super) fn run(args: &ExtractArgs) -> anyhow::Result<()> {
    let ExtractArgs { kind, seconds, memory_bytes, expanded_bytes, text_bytes } = args;
    let limits = documents::Limits {
        timeout: Duration::from_secs(*seconds),
        memory_bytes: *memory_bytes,
        expanded_bytes: *expanded_bytes,
        text_bytes: *text_bytes,
    };
    child::run(kind, &limits).context("read the file on the standard input")
}
