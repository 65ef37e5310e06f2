//! `activekg serve`: the server until a signal stops it.

use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use tracing::{error, info};

use super::banner;
use crate::config::{Config, Options};
use crate::observability::logs;
use crate::{shutdown, startup};

/// Serve the HTTP API
///
/// Every setting is a flag and an environment variable; a flag wins, an empty variable counts as unset.
/// Booleans are true/1/yes/on and false/0/no/off. Logs are JSON lines on stdout, or plain text when
/// stdout is a terminal. SIGTERM or Ctrl-C stops the server in order.
#[derive(Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    options: Options,
}

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let config = Config::new(&args.options)?;
    logs::init(&config.observability);
    let first_run = is_empty(&config.store.data_dir);
    super::runtime()?.block_on(async {
        let server = startup::start(config.clone()).await?;
        // Logs own stdout. Later starts without a person watching need no banner.
        if first_run || std::io::stderr().is_terminal() {
            eprintln!("{}", banner::text(&config, server.addr));
        }
        let access = banner::access(&config);
        info!(authentication = access.tokens, authorization = access.mode, "{}", access.sentence);
        if let Some(problem) = server.app().authenticator.problem() {
            error!("every request that needs a token is turned away: {problem}");
        }
        shutdown::signalled().await.context("listen for signals")?;
        server.stop().await;
        Ok(())
    })
}

/// Whether the folder holds nothing yet.
fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}
