//! `activekg support-bundle`: what is needed to find out what is wrong.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use activekg_storage::time::{Clock as _, SystemClock};
use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::queue::common::{Common, print};
use super::remote::Client;
use crate::timestamp::iso;

/// Most bytes of the log, its end.
const LOG_MAX: u64 = 4 << 20;

/// What the server is asked, and the files that hold the answers.
const ASKED: [(&str, &str); 14] = [
    ("/health", "health.json"),
    ("/readyz", "readyz.json"),
    ("/prometheus", "metrics.txt"),
    ("/metrics", "metrics.json"),
    ("/_admin/config", "config.json"),
    ("/admin/queues", "queues.json"),
    ("/admin/embedding/status", "embedding.json"),
    ("/admin/indexes", "indexes.json"),
    ("/_admin/connectors/", "connectors.json"),
    ("/_admin/connectors/keys", "keys.json"),
    ("/_admin/connectors/cache/health", "bus.json"),
    ("/_admin/db/stats", "db_stats.json"),
    ("/_admin/db/activity", "db_activity.json"),
    ("/_admin/metrics_summary", "scheduler.json"),
];

/// Collect what is needed to find out what is wrong, without secrets
///
/// Writes a folder with the answers of the running server about its health, metrics, queues, settings (secrets by
/// their fingerprints), connectors (without their settings) and store, and with the end of the log if it is given. It holds no documents
/// and no questions. Look at it before you send it on.
#[derive(Args)]
pub(super) struct SupportArgs {
    /// The folder to make [default: activekg-support-TIME in this folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A file with the server's log; its last 4 MiB are added
    #[arg(long, env = "ACTIVEKG_LOG_FILE", value_name = "FILE")]
    log: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: &SupportArgs) -> anyhow::Result<()> {
    super::runtime()?.block_on(bundle(args))
}

async fn bundle(args: &SupportArgs) -> anyhow::Result<()> {
    let SupportArgs { out, log, common } = args;
    let server = common.remote.needed_server()?;
    let now = iso(SystemClock.now().get());
    let named = now.get(..19).unwrap_or(&now).replace([':', '-'], "").replace('T', "_");
    let dir = out.clone().unwrap_or_else(|| format!("activekg-support-{named}").into());
    // What is there already is not mixed with it.
    let made = fs::DirBuilder::new().mode(0o700).create(&dir);
    made.with_context(|| format!("make the folder {}", dir.display()))?;
    let mut files = Vec::new();
    for (path, name) in ASKED {
        write(&dir, name, answer(&server, path).await.as_bytes())?;
        files.push(name);
    }
    if let Some(log) = log {
        write(&dir, "log.txt", &tail(log).with_context(|| format!("read {}", log.display()))?)?;
        files.push("log.txt");
    }
    let about = json!({ "made_at": now, "client": crate::observability::build_info::FULL });
    write(&dir, "about.json", about.to_string().as_bytes())?;
    let text = format!("{}: {} files\n", dir.display(), files.len() + 1);
    print(common, &json!({ "folder": dir, "files": files }), &text)
}

/// What the server says; a part that fails is no reason to go without the others.
async fn answer(server: &Client, path: &str) -> String {
    match server.look(path).await {
        Ok((_, text)) => text,
        Err(error) => format!("{error:#}\n"),
    }
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let path = dir.join(name);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.with_context(|| format!("write {}", path.display()))
}

/// The end of a file.
fn tail(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_MAX)))?;
    let mut bytes = Vec::new();
    file.take(LOG_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
