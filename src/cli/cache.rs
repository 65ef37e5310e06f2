//! `activekg cache`: the cache of opened connectors.

use clap::{Args, Subcommand};
use serde_json::json;

use super::queue::common::{Common, print};

/// Look after the cache of opened connectors
#[derive(Args)]
pub(super) struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Subcommand)]
enum CacheCommand {
    /// Forget opened connectors, so that they are read again
    ///
    /// Queues and data stay as they are.
    Flush(Box<Common>),
}

pub(super) fn run(args: &CacheArgs) -> anyhow::Result<()> {
    let CacheCommand::Flush(common) = &args.command;
    super::runtime()?.block_on(async {
        let server = common.remote.needed_server()?;
        let answer = server.post("/_admin/connectors/cache/flush", &json!({})).await?;
        print(common, &answer, &format!("flushed {} connectors\n", answer["entries"]))
    })
}
