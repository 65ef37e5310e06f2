//! `activekg config`: the settings of a running server.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::queue::common::{Common, print};

/// Where the server shows its settings.
pub(super) const CONFIG: &str = "/_admin/config";

/// Look at the settings of a running server
#[derive(Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Print the settings that were given, a line each; all others are as `serve --help` says
    ///
    /// Of a secret it prints the beginning of its SHA-256, which tells it from another one. Passwords in addresses,
    /// and what follows their path, are left out.
    Show(Box<Common>),
}

pub(super) fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    let ConfigCommand::Show(common) = &args.command;
    super::runtime()?.block_on(async {
        let answer = common.remote.needed_server()?.get(CONFIG).await?;
        let text: String =
            given(&answer).map(|(name, value)| format!("{name}={value}\n")).collect();
        print(common, &answer, &text)
    })
}

/// The settings of an answer, with their values.
pub(super) fn given(answer: &Value) -> impl Iterator<Item = (&str, &str)> {
    let settings = answer["settings"].as_array().map_or(&[][..], Vec::as_slice);
    settings.iter().filter_map(|shown| Some((shown["setting"].as_str()?, shown["value"].as_str()?)))
}
