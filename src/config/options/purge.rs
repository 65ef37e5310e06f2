//! Settings of purges.

use clap::Args;

/// Purging what was deleted.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Purge")]
pub struct PurgeOptions {
    /// Nodes that a purge removes in one transaction, 1 to 10000 [default: 500]
    #[arg(long, env = "PURGER_BATCH_SIZE", value_name = "N")]
    pub purger_batch_size: Option<String>,
}
