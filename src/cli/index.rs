//! `activekg index`: the search indexes.

use std::fs;

use activekg_storage::{Offline, StoreOptions};
use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::queue::common::{Common, print};

/// Look after the search indexes
///
/// They hold nothing that is not in the store, and are kept up to date by themselves.
#[derive(Args)]
pub(super) struct IndexArgs {
    #[command(subcommand)]
    command: IndexCommand,
}

#[derive(Subcommand)]
enum IndexCommand {
    /// List the vector indexes of a running server
    List(Box<Common>),
    /// See to it that the vector indexes of the settings are there
    Ensure(Box<Common>),
    /// Make an index anew
    Rebuild(RebuildArgs),
}

#[derive(Args)]
struct RebuildArgs {
    #[command(subcommand)]
    which: RebuildCommand,
}

#[derive(Subcommand)]
enum RebuildCommand {
    /// The index of words
    ///
    /// The server must be stopped: it builds the index anew when it starts the next time, and is ready when it has.
    Text(Box<Common>),
}

pub(super) fn run(args: &IndexArgs) -> anyhow::Result<()> {
    match &args.command {
        IndexCommand::List(common) => indexes(common, "list"),
        IndexCommand::Ensure(common) => indexes(common, "ensure"),
        IndexCommand::Rebuild(RebuildArgs { which: RebuildCommand::Text(common) }) => text(common),
    }
}

fn indexes(common: &Common, action: &str) -> anyhow::Result<()> {
    super::runtime()?.block_on(async {
        let server = common.remote.needed_server()?;
        let answer = server.post("/admin/indexes", &json!({ "action": action })).await?;
        let names = answer["existing"].as_array().map_or(&[][..], Vec::as_slice);
        let names = names.iter().filter_map(Value::as_str).map(|name| format!("{name}\n"));
        print(common, &answer, &names.collect::<String>())
    })
}

fn text(common: &Common) -> anyhow::Result<()> {
    let dir = common.remote.data_dir()?;
    // Whoever serves the data has the index open.
    let held = Offline::open(&dir, &StoreOptions::default())?;
    let index = dir.join("index").join("text");
    let was_there = match fs::remove_dir_all(&index) {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => bail!("remove {}: {error}", index.display()),
    };
    drop(held);
    let answer = json!({ "removed": was_there, "index": index });
    print(common, &answer, "the index of words is built anew at the next start\n")
}
