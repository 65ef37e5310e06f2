//! `activekg keys`: the keys that seal connector secrets.

use std::fmt::Write as _;
use std::io::Write as _;

use activekg_storage::crypt::generate_key;
use activekg_storage::time::SystemClock;
use activekg_storage::{Store, StoreOptions};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::queue::common::{Common, print};
use crate::config;
use crate::config::options::KeyOptions;
use crate::connectors::keyring::{self, Status};

const KEYS: &str = "/_admin/connectors/keys";
const ROTATE: &str = "/_admin/connectors/rotate_keys";

/// Make, exchange and retire keys, and see which ones are in use
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
    /// Asks the running server; without one it looks at the data itself, and takes the same settings as `serve`.
    /// pending counts the connectors that a rotation would seal again with the active key.
    Status(Box<StatusArgs>),
    /// List the versions of the key, a line each
    List(Box<StatusArgs>),
    /// Seal the secrets of connectors again with the active key
    ///
    /// The running server does it, all that is selected in one call. What cannot be opened is left as it was, named,
    /// and tried again by the next call.
    Rotate(Box<RotateArgs>),
    /// Make sure that a version of the key is needed no more
    ///
    /// Refuses while the version is the active one or connectors are sealed with it. Otherwise it says what to unset;
    /// the server drops the key when it starts again.
    Retire(Box<RetireArgs>),
}

#[derive(Args)]
struct StatusArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    keys: KeyOptions,
}

#[derive(Args)]
struct RotateArgs {
    /// Only connectors of this provider; may be given several times
    #[arg(long = "provider", value_name = "PROVIDER")]
    providers: Vec<String>,
    /// Only connectors of this tenant; may be given several times
    #[arg(long = "tenant", value_name = "TENANT")]
    tenants: Vec<String>,
    /// Connectors in one transaction, 1 to 10000
    #[arg(long, value_name = "N", default_value_t = 100)]
    batch_size: u32,
    /// Only count what would be sealed again
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct RetireArgs {
    /// The version, from 1
    version: u32,
    #[command(flatten)]
    status: StatusArgs,
}

pub(super) fn run(args: &KeysArgs) -> anyhow::Result<()> {
    match &args.command {
        KeysCommand::Generate => {
            let key = generate_key().context("make a random key")?;
            let mut stdout = std::io::stdout();
            stdout.write_all(key.reveal())?;
            stdout.write_all(b"\n")?;
            Ok(())
        }
        KeysCommand::Status(args) => {
            let status = gather(args)?;
            print(&args.common, &serde_json::to_value(&status)?, &format!("{}\n", plain(&status)))
        }
        KeysCommand::List(args) => {
            let status = gather(args)?;
            print(&args.common, &serde_json::to_value(&status)?, &table(&status))
        }
        KeysCommand::Rotate(args) => super::runtime()?.block_on(rotate(args)),
        KeysCommand::Retire(args) => {
            let RetireArgs { version, status } = &**args;
            let text = retire(*version, &gather(status)?)?;
            let answer = json!({ "version": version, "in_use": false });
            print(&status.common, &answer, &text)
        }
    }
}

/// Asks the server, or looks at the data itself where none runs.
fn gather(args: &StatusArgs) -> anyhow::Result<Status> {
    let asked = super::runtime()?.block_on(async {
        match args.common.remote.server()? {
            Some(server) => server.get(KEYS).await.map(Some),
            None => Ok(None),
        }
    })?;
    match asked {
        Some(answer) => serde_json::from_value(answer).context("read the server's answer"),
        None => offline(args),
    }
}

fn offline(args: &StatusArgs) -> anyhow::Result<Status> {
    let keys = config::Keys::new(&args.keys, &mut Vec::new())?;
    let dir = args.common.remote.data_dir()?;
    if !dir.join("store.redb").exists() {
        bail!("there is no data in {}; name its folder with --data-dir", dir.display());
    }
    let store = Store::open(&dir, StoreOptions::default())?;
    let ring = keyring::existing(&keys, &dir)?;
    Ok(Status::gather(&store, ring.as_ref(), &SystemClock, None)?)
}

async fn rotate(args: &RotateArgs) -> anyhow::Result<()> {
    let RotateArgs { providers, tenants, batch_size, dry_run, common } = args;
    let body = json!({
        "providers": providers, "tenants": tenants, "batch_size": batch_size, "dry_run": dry_run,
    });
    let answer = common.remote.needed_server()?.post(ROTATE, &body).await?;
    print(common, &answer, &rotated(&answer))?;
    match answer["errors"].as_u64() {
        Some(0) => Ok(()),
        _ => bail!("some connectors were not sealed again; the log says why"),
    }
}

/// What a rotation did: its figures, then the connectors that were left, a line each.
fn rotated(answer: &Value) -> String {
    if let Some(candidates) = answer["candidates"].as_u64() {
        return format!("candidates={candidates}\n");
    }
    let figure = |name: &str| answer[name].as_u64().unwrap_or(0);
    let mut text = format!(
        "rotated={} skipped={} errors={}\n",
        figure("rotated"),
        figure("skipped"),
        figure("errors")
    );
    for failed in answer["failed"].as_array().map_or(&[][..], Vec::as_slice) {
        let part = |name: &str| failed[name].as_str().unwrap_or("?");
        let _ = writeln!(text, "failed: {}/{}", part("tenant_id"), part("provider"));
    }
    if let Some(error) = answer["error"].as_str() {
        let _ = writeln!(text, "ended early: {error}");
    }
    text
}

/// What to do to be rid of a version.
///
/// # Errors
///
/// When it is needed.
fn retire(version: u32, status: &Status) -> anyhow::Result<String> {
    if status.active_version == Some(version) {
        bail!(
            "version {version} is the active one; set CONNECTOR_KEK_ACTIVE_VERSION to another, restart, and run `activekg keys rotate`"
        );
    }
    let n_sealed = status.distribution.get(&version).copied().unwrap_or(0);
    if n_sealed > 0 {
        bail!(
            "version {version} is still in use by {n_sealed} connectors; run `activekg keys rotate` first"
        );
    }
    if !status.available_versions.contains(&version) {
        bail!("version {version} is not loaded; `activekg keys list` shows those that are");
    }
    Ok(format!(
        "Version {version} is not in use. Unset CONNECTOR_KEK_V{version} and restart; keep a copy for as long as backups need it.\n"
    ))
}

fn table(status: &Status) -> String {
    let Status { active_version, available_versions, distribution, pending: _, total: _ } = status;
    let mut versions: Vec<u32> = available_versions.clone();
    versions.extend(distribution.keys());
    versions.sort_unstable();
    versions.dedup();
    let mut text = format!("{:>7}  {:<8} {:>10}\n", "version", "state", "connectors");
    for version in versions {
        let state = match version {
            active if Some(active) == *active_version => "active",
            loaded if available_versions.contains(&loaded) => "loaded",
            _ => "missing",
        };
        let n_sealed = distribution.get(&version).copied().unwrap_or(0);
        let _ = writeln!(text, "{version:>7}  {state:<8} {n_sealed:>10}");
    }
    text
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

    fn status(active: u32, available: &[u32], distribution: &[(u32, u64)]) -> Status {
        Status {
            active_version: Some(active),
            available_versions: available.to_vec(),
            distribution: distribution.iter().copied().collect(),
            pending: 0,
            total: distribution.iter().map(|(_, n)| n).sum(),
        }
    }

    #[test]
    fn a_version_that_is_needed_is_not_retired() {
        let status = status(2, &[1, 2, 3], &[(1, 4), (2, 9)]);
        let refused = |version| retire(version, &status).unwrap_err().to_string();
        assert!(refused(1).starts_with("version 1 is still in use by 4 connectors"));
        assert!(refused(2).starts_with("version 2 is the active one"));
        assert!(refused(9).starts_with("version 9 is not loaded"));
        assert!(retire(3, &status).unwrap().contains("Unset CONNECTOR_KEK_V3"));
    }

    #[test]
    fn versions_are_listed_whether_they_are_there_or_not() {
        let text = table(&status(2, &[2, 3], &[(1, 4), (2, 9)]));
        let expected = "version  state    connectors\n      1  missing           4\n      2  active            9\n      3  loaded            0\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_rotation_is_told_with_what_it_left() {
        let answer = json!({"rotated": 2, "skipped": 0, "errors": 1, "failed": [{"tenant_id": "acme", "provider": "s3"}]});
        assert_eq!(rotated(&answer), "rotated=2 skipped=0 errors=1\nfailed: acme/s3\n");
        assert_eq!(rotated(&json!({"candidates": 7, "errors": 0})), "candidates=7\n");
    }
}
