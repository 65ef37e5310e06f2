//! `activekg bus`: the bus that tells of changed connectors.

use clap::{Args, Subcommand};
use serde_json::json;

use super::queue::common::{Common, print};

/// Where the server says how the bus is.
pub(super) const HEALTH: &str = "/_admin/connectors/cache/health";
/// The one channel there is.
pub(super) const CHANNEL: &str = "connector:config:changed";

/// Look at the bus that tells of changed connectors
///
/// It is inside the server: there is nothing else to look after.
#[derive(Args)]
pub(super) struct BusArgs {
    #[command(subcommand)]
    command: BusCommand,
}

#[derive(Subcommand)]
enum BusCommand {
    /// Print the channels that somebody listens to
    Channels(Box<Common>),
}

pub(super) fn run(args: &BusArgs) -> anyhow::Result<()> {
    let BusCommand::Channels(common) = &args.command;
    super::runtime()?.block_on(async {
        let health = common.remote.needed_server()?.get(HEALTH).await?;
        let listens = health["subscriber"]["connected"] == true;
        let channels: &[&str] = if listens { &[CHANNEL] } else { &[] };
        let text: String = channels.iter().map(|channel| format!("{channel}\n")).collect();
        print(common, &json!({ "channels": channels }), &text)
    })
}
