//! `activekg dashboards`: alert rules for Prometheus and dashboards for Grafana.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::observability::dashboards::FILES;

/// Alert rules and dashboards
#[derive(Args)]
pub(super) struct DashboardsArgs {
    #[command(subcommand)]
    command: DashboardsCommand,
}

#[derive(Subcommand)]
enum DashboardsCommand {
    /// Write them to a folder, in place of what an older version wrote there
    Export {
        /// The folder; made if it is not there
        dir: PathBuf,
    },
}

pub(super) fn run(args: &DashboardsArgs) -> anyhow::Result<()> {
    let DashboardsCommand::Export { dir } = &args.command;
    for file in FILES {
        let path = dir.join(file.path);
        let folder = path.parent().unwrap_or(dir);
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        fs::write(&path, file.text).with_context(|| format!("write {}", path.display()))?;
        writeln!(std::io::stdout(), "{}", path.display())?;
    }
    Ok(())
}
