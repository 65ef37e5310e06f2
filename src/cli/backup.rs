//! `activekg backup`: making archives, and looking after them.

mod find;
mod restore;

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use activekg_storage::backup::{Manifest, Progress};
use activekg_storage::time::{Clock as _, SystemClock};
use activekg_storage::{Store, StoreOptions};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::backup::{self, Backups, Report, Source};
use crate::config::options::{BackupOptions, RemoteOptions};
use crate::config::{self, Place};
use crate::timestamp::iso;
pub(super) use restore::{RestoreArgs, restore};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Make, list, check and restore backups
#[derive(Args)]
pub(super) struct BackupArgs {
    #[command(subcommand)]
    command: BackupCommand,
}

#[derive(Subcommand)]
enum BackupCommand {
    /// Make an archive of everything and print its path
    ///
    /// The server that runs on the data directory makes it while it goes on serving; without one, this command does.
    /// The archive is read back and checked before it gets its name. The last line on stdout is its path. No key is in
    /// it: the versions it needs are named on stderr.
    Create(Box<CreateArgs>),
    /// List the archives, newest first
    List(Box<ListArgs>),
    /// Restore an archive into a temporary folder and try the copy out
    ///
    /// Checks every byte of the archive and every row of the copy, counts the tables against the archive's manifest, and
    /// runs queries. Needs room for the copy beside the archive, or in TMPDIR for one in a bucket.
    Verify(Box<VerifyArgs>),
    /// Restore an archive into a directory
    Restore(Box<RestoreArgs>),
    /// Practise: verify the newest archive, and print how long it took and how old its data is
    Drill(Box<DrillArgs>),
    /// Remove old archives, though never the newest good one
    Prune(Box<PruneArgs>),
}

#[derive(Args)]
struct CreateArgs {
    /// A folder, or an address such as s3://bucket/prefix, instead of the configured one
    #[arg(long, value_name = "DIR-OR-URL")]
    to: Option<String>,
    #[command(flatten)]
    at: Where,
}

#[derive(Args)]
struct ListArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

#[derive(Args)]
struct VerifyArgs {
    /// A path, an address, or the name, stamp or day of an archive in the configured place
    archive: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

#[derive(Args)]
struct DrillArgs {
    /// Make an archive first
    #[arg(long)]
    create: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

#[derive(Args)]
struct PruneArgs {
    /// Remove archives older than this, instead of the configured retention
    #[arg(long, value_name = "N")]
    keep_days: Option<u32>,
    #[command(flatten)]
    at: Where,
}

/// The data, and where its archives are.
#[derive(Args)]
struct Where {
    #[command(flatten)]
    backup: BackupOptions,
    #[command(flatten)]
    remote: RemoteOptions,
}

impl Where {
    fn settings(&self) -> anyhow::Result<(config::Store, config::Backup)> {
        let store = config::Store::new(&self.remote.store, &mut Vec::new())?;
        let backup = config::Backup::new(&self.backup, &store.data_dir)?;
        Ok((store, backup))
    }
}

pub(super) fn run(args: &BackupArgs) -> anyhow::Result<()> {
    if let BackupCommand::Restore(args) = &args.command {
        return restore(args);
    }
    super::runtime()?.block_on(async {
        match &args.command {
            BackupCommand::Create(args) => create(&args.at, args.to.as_deref()).await.map(drop),
            BackupCommand::List(args) => list(args).await,
            BackupCommand::Verify(args) => verify(&args.at, &args.archive, args.json).await,
            BackupCommand::Drill(args) => drill(args).await,
            BackupCommand::Prune(args) => prune(args).await,
            BackupCommand::Restore(_) => Ok(()),
        }
    })
}

/// Makes an archive, prints its path and returns it.
async fn create(at: &Where, to: Option<&str>) -> anyhow::Result<String> {
    let to = to.map(whole).transpose()?;
    let created = match at.remote.server()? {
        Some(server) => server.post("/admin/backup", &json!({ "to": to })).await?,
        None => create_offline(at, to.as_deref()).await?,
    };
    let text = |name: &str| created[name].as_str().unwrap_or_default().to_owned();
    eprintln!(
        "{} rows in {} bytes, {:.1} s",
        created["rows"],
        created["bytes"],
        created["duration_seconds"].as_f64().unwrap_or_default()
    );
    let versions: Vec<String> = created["key_versions"]
        .as_array()
        .map(|versions| versions.iter().map(Value::to_string).collect())
        .unwrap_or_default();
    eprintln!("{}", needed(&versions));
    let path = text("path");
    println!("{path}");
    match created["damage"].as_str() {
        Some(damage) => bail!("the archive lacks what is damaged in the store: {damage}"),
        None => Ok(path),
    }
}

/// A folder by its whole path: the server has another working directory.
fn whole(to: &str) -> anyhow::Result<String> {
    let place = Place::parse(to).map_err(anyhow::Error::msg).context("read --to")?;
    Ok(match place {
        Place::Folder(path) => {
            let path = std::path::absolute(path).context("find the working directory")?;
            path.into_os_string().into_string().ok().context("--to is not UTF-8")?
        }
        Place::Bucket(url) => url,
    })
}

async fn create_offline(at: &Where, to: Option<&str>) -> anyhow::Result<Value> {
    let (store, backup) = at.settings()?;
    let dir = store.data_dir;
    if !dir.join("store.redb").exists() {
        bail!("there is no data in {}; name its folder with --data-dir", dir.display());
    }
    let place = match to {
        Some(to) => Place::parse(to).map_err(anyhow::Error::msg).context("read --to")?,
        None => backup.place,
    };
    let target = backup::target::open(&place, &backup.clouds).context("use the place")?;
    let opened = Arc::new(Store::open(&dir, StoreOptions::default())?);
    let source = Source {
        store: opened.clone(),
        data_dir: dir,
        min_free_bytes: store.min_free_bytes,
        clock: Arc::new(SystemClock),
        stopping: CancellationToken::new(),
    };
    let backups = Backups::new(source, target, backup.key, None);
    let created = backups.create(None, report()).await;
    opened.close();
    Ok(backup::created(&created?))
}

/// Tells somebody who watches how far it is.
fn report() -> Report {
    let watched = std::io::stderr().is_terminal();
    let mut percent = u64::MAX;
    Box::new(move |progress: Progress| {
        let now = progress.rows * 100 / progress.rows_total.max(1);
        if watched && now != percent {
            percent = now;
            eprint!("\r{now:>3} % of {} rows\x1b[K\r", progress.rows_total);
        }
    })
}

async fn list(args: &ListArgs) -> anyhow::Result<()> {
    let listed = match &args.at.remote.url {
        Some(_) => {
            let server = args.at.remote.needed_server()?;
            server.get("/admin/backups").await?["backups"].take()
        }
        None => Value::from(find::list(&args.at).await?),
    };
    print_list(&listed, args.json)
}

fn print_list(listed: &Value, json: bool) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    if json {
        writeln!(stdout, "{}", json!({ "backups": listed }))?;
        return Ok(());
    }
    for archive in listed.as_array().map_or(&[][..], Vec::as_slice) {
        let text = |name: &str| archive[name].as_str().unwrap_or("-").to_owned();
        let state = match archive["problem"].as_str() {
            Some(problem) => problem.to_owned(),
            None => format!("{} rows", archive["rows"]),
        };
        let (at, bytes) = (text("created_at"), &archive["bytes"]);
        writeln!(stdout, "{at}  {bytes:>14} bytes  {}  {state}", text("path"))?;
    }
    Ok(())
}

async fn verify(at: &Where, wanted: &str, json: bool) -> anyhow::Result<()> {
    if at.remote.url.is_some() {
        let server = at.remote.needed_server()?;
        let path = format!("/admin/backups/{}/verify", crate::http::routes::encode_path(wanted));
        let tried = server.post(&path, &json!({})).await?;
        return print_trial(wanted, &tried, json);
    }
    let (_, settings) = at.settings()?;
    let found = find::archive(&settings, wanted).await?;
    let trial = backup::trial(found.bytes, &found.beside).await?;
    print_trial(&found.path, &backup::tried(&trial, SystemClock.now()), json)
}

/// Prints what came of a trial. Damage that the archive tells of is a failure.
fn print_trial(path: &str, tried: &Value, json: bool) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    if json {
        writeln!(stdout, "{tried}")?;
    } else {
        let seconds = |name: &str| tried[name].as_f64().unwrap_or_default();
        let age = Duration::from_secs_f64(seconds("age_seconds"));
        writeln!(stdout, "{path}")?;
        writeln!(
            stdout,
            "data from   {} ({} old)",
            tried["created_at"].as_str().unwrap_or("-"),
            old(age)
        )?;
        writeln!(stdout, "rows        {}", tried["rows"])?;
        writeln!(
            stdout,
            "queries     {} nodes, {} ancestors, {} events read; {} nodes found by their words",
            tried["nodes_read"],
            tried["ancestors_read"],
            tried["events_read"],
            tried["nodes_found"]
        )?;
        writeln!(stdout, "restored in {:.1} s", seconds("restored_in_seconds"))?;
        writeln!(stdout, "took        {:.1} s", seconds("duration_seconds"))?;
    }
    match tried["damage"].as_str() {
        Some(damage) => bail!("the store was damaged when it was backed up: {damage}"),
        None => Ok(()),
    }
}

async fn drill(args: &DrillArgs) -> anyhow::Result<()> {
    if args.create {
        let path = create(&args.at, None).await?;
        return verify(&args.at, &path, args.json).await;
    }
    let (_, settings) = args.at.settings()?;
    let newest = find::newest(&settings).await?;
    verify(&args.at, &newest, args.json).await
}

async fn prune(args: &PruneArgs) -> anyhow::Result<()> {
    let (_, settings) = args.at.settings()?;
    let keep = match args.keep_days {
        Some(days) => Some(DAY * days),
        None => settings.retention,
    };
    let Some(keep) = keep else {
        bail!("BACKUP_RETENTION_DAYS is 0, which keeps all archives; say --keep-days");
    };
    let removed = find::blocking(&settings, move |target, key| {
        backup::prune(target, key, SystemClock.now(), keep)
    })
    .await??;
    for name in removed {
        println!("{name}");
    }
    Ok(())
}

/// Which keys an archive needs.
fn needed(versions: &[String]) -> String {
    match versions {
        [] => "no sealed secrets: the archive needs no key of connectors".to_owned(),
        versions => format!(
            "needs CONNECTOR_KEK version {}; it is not in the archive, so keep it elsewhere",
            versions.join(", ")
        ),
    }
}

/// A span as people say it.
fn old(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_in_words() {
        let ages = [5, 119, 120, 7_199, 7_200, 172_799, 172_800, 864_000];
        let told = ages.map(|seconds| old(Duration::from_secs(seconds)));
        assert_eq!(told, ["5 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days", "10 days"]);
    }

    #[test]
    fn keys_are_named() {
        assert!(needed(&[]).starts_with("no sealed secrets"));
        let versions = ["1".to_owned(), "3".to_owned()];
        assert!(needed(&versions).contains("version 1, 3;"));
    }

    #[test]
    fn folders_are_sent_with_their_whole_path() {
        assert_eq!(whole("/mnt/x").unwrap(), "/mnt/x");
        assert!(whole("x").unwrap().ends_with("/x"));
        assert_eq!(whole("s3://bucket/x/").unwrap(), "s3://bucket/x");
        assert!(whole("ftp://x").is_err());
    }
}
