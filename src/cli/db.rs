//! `activekg db`: looking after the store.

mod show;

use std::fs;
use std::io::Write as _;
use std::path::Path;

use activekg_storage::check::{self, CheckOptions};
use activekg_storage::compact::{self, CompactError};
use activekg_storage::repair::{self, RepairError};
use activekg_storage::time::{Clock as _, SystemClock};
use activekg_storage::{FORMAT, Offline, OpenError, Store, StoreOptions, scrub};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::remote::Client;
use crate::config::options::RemoteOptions;
use crate::{graph, timestamp};

/// Look after the store
#[derive(Args)]
pub(super) struct DbArgs {
    #[command(subcommand)]
    command: DbCommand,
}

#[derive(Subcommand)]
enum DbCommand {
    /// Make the store if there is none yet
    Init(Box<CommonArgs>),
    /// Compare every row with its checksum, and rows with each other
    ///
    /// Asks the server if one runs on the data; otherwise every page of the file is looked at too. Nothing is
    /// changed. Exits with 1 if something is wrong.
    Check(Box<CheckArgs>),
    /// Show what each table holds
    Stats(Box<CommonArgs>),
    /// Show who reads, who waits and how commits go, of a running server
    Activity(Box<ActivityArgs>),
    /// Copy the store into a file without free space
    ///
    /// The server must be stopped. The copy is compared before it takes the old file's place.
    Compact(Box<CommonArgs>),
    /// Save what can be read of a damaged store
    ///
    /// The server must be stopped. The damaged file and all damaged rows are kept in the folder quarantine of
    /// the data directory. Exits with 1 if rows are lost.
    Repair(Box<CommonArgs>),
}

#[derive(Args)]
struct CommonArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: RemoteOptions,
}

#[derive(Args)]
struct CheckArgs {
    /// Follow every reference, to show that none leads out of its tenant
    #[arg(long)]
    isolation: bool,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args)]
struct ActivityArgs {
    /// Only what takes long: snapshots open for more than a second
    #[arg(long)]
    slow: bool,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(args: &DbArgs) -> anyhow::Result<()> {
    match &args.command {
        DbCommand::Init(args) => init(args),
        DbCommand::Check(args) => check(args),
        DbCommand::Stats(args) => stats(args),
        DbCommand::Activity(args) => activity(args),
        DbCommand::Compact(args) => compact(args),
        DbCommand::Repair(args) => repair(args),
    }
}

/// Prints a result: as JSON, or for people.
fn print(
    common: &CommonArgs,
    result: &Value,
    text: impl FnOnce(&Value) -> String,
) -> anyhow::Result<()> {
    let text = if common.json { format!("{result}\n") } else { text(result) };
    std::io::stdout().write_all(text.as_bytes()).context("write the result")
}

/// Says on stderr what is being looked at.
fn progress(what: &str) {
    eprintln!("  {what}");
}

fn init(args: &CommonArgs) -> anyhow::Result<()> {
    let dir = args.remote.data_dir()?;
    let made = match Client::connect(&dir)? {
        // Whoever serves it has made it.
        Some(_) => false,
        None => {
            let made = !dir.join("store.redb").exists();
            Store::open(&dir, StoreOptions::default())?.close();
            made
        }
    };
    let result = json!({ "data_dir": dir, "format": FORMAT, "made": made });
    print(args, &result, |_| {
        let what = if made { "made" } else { "there already" };
        format!("{}: {what}, format {FORMAT}\n", dir.display())
    })
}

fn check(args: &CheckArgs) -> anyhow::Result<()> {
    let CheckArgs { isolation, common } = args;
    let report = match common.remote.server()? {
        Some(client) => {
            let request = json!({ "isolation": isolation });
            let mut last = String::new();
            let done = super::runtime()?.block_on(client.follow(
                "/_admin/db/check",
                &request,
                |line| {
                    if let Some(table) = line["table"].as_str()
                        && table != last
                    {
                        progress(table);
                        table.clone_into(&mut last);
                    }
                },
            ))?;
            done.get("report").cloned().context("the server broke the check off")?
        }
        None => check_offline(&common.remote.data_dir()?, *isolation)?,
    };
    print(common, &report, show::check)?;
    if report["sound"] == true {
        return Ok(());
    }
    bail!(
        "the store is not sound; restore a backup (`activekg backup restore`), or stop the server and save what \
         can be read (`activekg db repair`)"
    )
}

fn check_offline(dir: &Path, isolation: bool) -> anyhow::Result<Value> {
    let mut store = Offline::open(dir, &StoreOptions::default())?;
    let options = CheckOptions { isolation };
    let report = check::check(&mut store, options, &mut progress).context("check the store")?;
    let sound = report.is_sound();
    let counters = if sound {
        graph::wrong_counters(&store.read().context("read the store")?).context("count nodes")?
    } else {
        Vec::new()
    };
    let mut report = json!(report);
    report["sound"] = (sound && counters.is_empty()).into();
    report["counters"] = json!(counters);
    Ok(report)
}

fn stats(args: &CommonArgs) -> anyhow::Result<()> {
    let stats = match args.remote.server()? {
        Some(client) => super::runtime()?.block_on(client.get("/_admin/db/stats"))?,
        None => {
            let store = Offline::open(&args.remote.data_dir()?, &StoreOptions::default())?;
            let tx = store.read().context("read the store")?;
            let mut stats = json!({ "tables": scrub::census(&tx) });
            drop(tx);
            stats["file_bytes"] = store.file_bytes().context("look at the file")?.into();
            stats["pages"] = json!(store.pages().context("look at the pages")?);
            stats
        }
    };
    print(args, &stats, show::stats)
}

fn activity(args: &ActivityArgs) -> anyhow::Result<()> {
    let ActivityArgs { slow, common } = args;
    let client = common.remote.needed_server()?;
    let activity = super::runtime()?.block_on(client.get("/_admin/db/activity"))?;
    print(common, &activity, |activity| show::activity(activity, *slow))
}

fn compact(args: &CommonArgs) -> anyhow::Result<()> {
    let dir = args.remote.data_dir()?;
    let free = fs4::available_space(&dir).context("ask the file system for its free space")?;
    let report = compact::compact(&dir, free, &mut progress).map_err(|error| match error {
        // It has an exit code of its own.
        CompactError::Open(error) => anyhow::Error::new(error),
        other => other.into(),
    })?;
    print(args, &json!(report), show::compact)
}

fn repair(args: &CommonArgs) -> anyhow::Result<()> {
    let dir = args.remote.data_dir()?;
    let stamp = stamp();
    let report = repair::repair(&dir, &stamp, &mut progress).map_err(|error| match error {
        RepairError::Open(error) => anyhow::Error::new(error),
        other => other.into(),
    })?;
    // What was derived from the old store may know of rows that are lost.
    set_indexes_aside(&dir, &report.quarantine).context("move the indexes away")?;
    progress("counters");
    let n_recounted = recount(&dir)?;
    let whole = report.is_whole();
    let mut report = json!(report);
    report["recounted"] = n_recounted.into();
    print(args, &report, show::repair)?;
    if whole {
        return Ok(());
    }
    bail!("some rows are lost; a backup may have them (`activekg backup list`)")
}

fn recount(dir: &Path) -> anyhow::Result<usize> {
    let store = Store::open(dir, StoreOptions::default())
        .map_err(|error: OpenError| anyhow::Error::new(error).context("open the repaired store"))?;
    let counted = store.write_blocking(graph::recount).context("count nodes")?;
    store.close();
    Ok(counted.value)
}

fn set_indexes_aside(dir: &Path, quarantine: &Path) -> std::io::Result<()> {
    match fs::rename(dir.join("index"), quarantine.join("index")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The instant as the name of a folder: 20260102T030405.678901Z.
fn stamp() -> String {
    let now = timestamp::iso(SystemClock.now().get());
    let plain: String = now.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    plain.replace("+0000", "Z")
}
