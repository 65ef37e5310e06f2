//! `activekg keys`: the keys that seal connector secrets.

use std::io::Write as _;

use activekg_storage::crypt::generate_key;
use activekg_storage::time::SystemClock;
use activekg_storage::{Store, StoreOptions};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use crate::config;
use crate::config::options::{KeyOptions, StoreOptions as Folder};
use crate::connectors::keyring::{self, Status};

/// Make keys, and see which ones are in use
#[derive(Args)]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Print a new random key
    ///
    /// 44 characters, for CONNECTOR_KEK_V1 and its successors, or to encrypt backups to. Works without a server
    /// and without data.
    Generate,
    /// Print which keys are loaded, and how many connectors are sealed with which
    ///
    /// Takes the same settings as `serve`. pending counts the connectors that a rotation would seal again with
    /// the active key.
    Status(Box<StatusArgs>),
}

#[derive(Args)]
struct StatusArgs {
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    keys: KeyOptions,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &KeysArgs) -> anyhow::Result<()> {
    match &args.command {
        KeysCommand::Generate => {
            let key = generate_key().context("make a random key")?;
            let mut stdout = std::io::stdout();
            stdout.write_all(key.reveal())?;
            stdout.write_all(b"\n")?;
        }
        KeysCommand::Status(args) => {
            let status = offline(args)?;
            let text = if args.json { serde_json::to_string(&status)? } else { plain(&status) };
            writeln!(std::io::stdout(), "{text}")?;
        }
    }
    Ok(())
}

/// Looks at the data itself, which no server may hold meanwhile.
fn offline(args: &StatusArgs) -> anyhow::Result<Status> {
    let keys = config::Keys::new(&args.keys, &mut Vec::new())?;
    let dir = config::Store::new(&args.folder, &mut Vec::new())?.data_dir;
    if !dir.join("store.redb").exists() {
        bail!("there is no data in {}; name its folder with --data-dir", dir.display());
    }
    let store = Store::open(&dir, StoreOptions::default())?;
    let ring = keyring::existing(&keys, &dir)?;
    Ok(Status::gather(&store, ring.as_ref(), &SystemClock)?)
}

fn plain(status: &Status) -> String {
    let Status { active_version, available_versions, distribution, pending, total } = status;
    let active = active_version.map_or_else(|| "none".to_owned(), |version| version.to_string());
    let distribution: Vec<String> =
        distribution.iter().map(|(version, n)| format!("{version}: {n}")).collect();
    format!(
        "Active version: {active}\nAvailable versions: {available_versions:?}\npending={pending} total={total}\nDistribution: {{{}}}",
        distribution.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_printed_as_guides_show_them() {
        let status = Status {
            active_version: Some(2),
            available_versions: vec![1, 2],
            distribution: [(1, 3), (2, 39)].into(),
            pending: 3,
            total: 42,
        };
        let expected = "Active version: 2\nAvailable versions: [1, 2]\npending=3 total=42\nDistribution: {1: 3, 2: 39}";
        assert_eq!(plain(&status), expected);
        let json = r#"{"active_version":2,"available_versions":[1,2],"distribution":{"1":3,"2":39},"pending":3,"total":42}"#;
        assert_eq!(serde_json::to_string(&status).unwrap(), json);
        let none = Status { active_version: None, ..status };
        assert!(plain(&none).starts_with("Active version: none\n"));
    }
}
