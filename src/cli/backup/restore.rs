//! `activekg backup restore` and `activekg restore`.

use std::io::{self, BufRead as _, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use activekg_storage::backup as archive;
use anyhow::{Context as _, bail};
use clap::Args;

use super::*;
use crate::config::Keys;
use crate::config::options::KeyOptions;
use crate::connectors::keyring;

/// What stays with a data directory whose store is replaced: the key that no archive has, and the
/// archives.
const CARRIED: [&str; 2] = ["kek.key", "backups"];

/// What must be typed.
const WORD: &str = "RESTORE";

/// Restore an archive into a directory
///
/// Everything is checked before the restored data gets its place: a damaged archive changes nothing. The directory must
/// be empty or not exist. If it has data, that is moved aside and kept, after RESTORE was typed or with --force. The
/// restored directory is a data directory as any other: start the server on it, and it builds its indexes anew.
#[derive(Args)]
pub(in crate::cli) struct RestoreArgs {
    /// A path, an address, or the name, stamp (20260203_100000) or day (2026-02-03) of an archive in the configured place
    #[arg(required_unless_present = "list")]
    archive: Option<String>,
    /// Directory to restore into [default: the data directory]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Read and check everything, say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Move data that is there aside without asking
    #[arg(long)]
    force: bool,
    /// List the archives instead
    #[arg(long, conflicts_with_all = ["archive", "into", "dry_run", "force"])]
    list: bool,
    #[command(flatten)]
    at: Where,
    #[command(flatten)]
    keys: KeyOptions,
}

pub(in crate::cli) fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    let runtime = super::super::runtime()?;
    let Some(wanted) = &args.archive else {
        return print_list(&Value::from(runtime.block_on(find::list(&args.at))?), false);
    };
    let (store, settings) = args.at.settings()?;
    let keys = Keys::new(&args.keys, &mut Vec::new())?;
    let into = args.into.clone().unwrap_or(store.data_dir);
    let into = std::path::absolute(into).context("find the working directory")?;
    let taken = is_taken(&into)?;
    if taken && !args.dry_run && !args.force {
        confirm(&into)?;
    }
    let started = Instant::now();
    // Objects are read through the runtime, from this thread.
    let found = runtime.block_on(find::archive(&settings, wanted))?;
    eprintln!("archive     {}", found.path);
    if args.dry_run {
        let manifest = archive::check(found.bytes, &mut archive::unattended)?;
        tell(&manifest, &keys, &into);
        println!(
            "would restore into {}{}",
            into.display(),
            if taken { ", moving aside what is there" } else { "" }
        );
        println!(
            "everything is in order; nothing was changed ({:.1} s)",
            started.elapsed().as_secs_f64()
        );
        return complete(&manifest);
    }
    let (manifest, aside) = put(found.bytes, &into, taken)?;
    tell(&manifest, &keys, &into);
    if let Some(aside) = aside {
        println!("kept what was there as {}", aside.display());
    }
    println!("restored into {} in {:.1} s", into.display(), started.elapsed().as_secs_f64());
    complete(&manifest)
}

/// Restores, and opens the copy once: an older format is brought up to date now, not at the start.
fn put(
    bytes: Box<dyn Read + Send>,
    into: &Path,
    taken: bool,
) -> anyhow::Result<(Manifest, Option<PathBuf>)> {
    let mut aside = None;
    let manifest = if taken {
        let now = backup::ArchiveName::new(SystemClock.now(), false);
        let name = into.file_name().context("the directory has no name")?;
        let mut before = name.to_owned();
        before.push(format!(".before-{}", now.stamp()));
        let before = into.with_file_name(before);
        let manifest = archive::replace(bytes, into, &before, &CARRIED, &mut archive::unattended)?;
        aside = Some(before);
        manifest
    } else {
        archive::restore(bytes, into, &mut archive::unattended)?
    };
    Store::open(into, StoreOptions::default())?.close();
    Ok((manifest, aside))
}

/// Whether there is anything in `dir` that must not be lost.
fn is_taken(dir: &Path) -> anyhow::Result<bool> {
    match std::fs::read_dir(dir) {
        Ok(entries) => {
            for entry in entries {
                let name = entry?.file_name();
                if !["store.lock", "restoring", "lost+found"].iter().any(|free| name == *free) {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("read {}", dir.display())),
    }
}

fn confirm(into: &Path) -> anyhow::Result<()> {
    let refused = || format!("{} has data; say --force to move it aside", into.display());
    if !io::stdin().is_terminal() {
        bail!(refused());
    }
    eprint!("{} has data. It will be moved aside and kept. Type {WORD} to go on: ", into.display());
    io::stderr().flush()?;
    let mut line = String::new();
    io::stdin().lock().take(64).read_line(&mut line)?;
    if line.trim() != WORD {
        bail!("nothing was changed");
    }
    Ok(())
}

/// Says how old the data is, and which keys it needs and whether they are there.
fn tell(manifest: &Manifest, keys: &Keys, into: &Path) {
    let at = manifest.about.created_at_us;
    let age = SystemClock.now().since(at);
    let rows: u64 = manifest.tables.iter().map(|table| table.rows).sum();
    println!("data from   {} ({} old)", iso(at.get()), old(age));
    println!("rows        {rows}");
    if manifest.key_versions.is_empty() {
        println!("keys        none needed");
        return;
    }
    let ring = keyring::existing(keys, into).ok().flatten();
    let versions: Vec<String> = manifest
        .key_versions
        .iter()
        .map(|version| {
            let there = ring.as_ref().is_some_and(|ring| ring.has(*version));
            format!("{version} ({})", if there { "present" } else { "MISSING" })
        })
        .collect();
    println!("keys        CONNECTOR_KEK version {}", versions.join(", "));
}

/// Damage that the archive tells of is a failure, after all that could be restored was.
fn complete(manifest: &Manifest) -> anyhow::Result<()> {
    if manifest.damage.is_none() {
        return Ok(());
    }
    bail!("the store was damaged when it was backed up: {}", backup::damage(manifest));
}
