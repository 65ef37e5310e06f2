//! Settings of commands that talk to a server.

use clap::Args;

use super::StoreOptions;
use crate::config::Secret;

/// Where the data is, or a server elsewhere.
#[derive(Args, Clone, Default)]
pub struct RemoteOptions {
    /// Where the data is; the server that runs on it is found there.
    #[command(flatten)]
    pub store: StoreOptions,
    /// Address of a server, instead of the one that runs on the data directory
    #[arg(long, env = "ACTIVEKG_URL", value_name = "URL", help_heading = "Server")]
    pub url: Option<String>,
    /// Token for the server at --url
    #[arg(
        long,
        env = "ACTIVEKG_TOKEN",
        value_name = "TOKEN",
        help_heading = "Server",
        hide_env_values = true
    )]
    pub token: Option<Secret>,
}
