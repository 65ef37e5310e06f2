//! `activekg purge`: removing for good what was deleted, and the receipts for that.

mod verify;

use std::io::Write as _;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::queue::common::{Common, Consent, print};
use crate::http::routes::encode_path;

const PURGE: &str = "/_admin/connectors/purge_deleted";
const RECEIPTS: &str = "/_admin/connectors/purge_receipts";

/// Remove for good what was deleted and whose grace is over
///
/// The running server does it: every deleted node whose deletion_grace_until has passed goes, with its chunks, edges,
/// versions, history, vectors and jobs. It does so by itself every night at 02:00 UTC. What was removed is written
/// down in receipts, which show every later change to them.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct PurgeArgs {
    #[command(subcommand)]
    command: Option<PurgeCommand>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Subcommand)]
enum PurgeCommand {
    /// Print the receipts of a tenant, a line each: the digest, two blanks, what was removed
    ///
    /// Keep them elsewhere: `activekg purge verify` shows later whether anything of them was changed.
    Receipts(Box<ReceiptsArgs>),
    /// Check that receipts are whole and unchanged
    ///
    /// Needs no server. Every line must have the digest that it says, and name the one before it. Lines that are
    /// missing at the end show only if the last digest is known: give it with --head. Exits with 1 if something is
    /// wrong.
    Verify(verify::VerifyArgs),
}

#[derive(Args)]
struct RunArgs {
    /// Only count what would go
    #[arg(long)]
    dry_run: bool,
    /// Only of this tenant [default: all]
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Nodes in one transaction, 1 to 10000 [default: PURGER_BATCH_SIZE of the server]
    #[arg(long, value_name = "N")]
    batch_size: Option<u32>,
    /// First count the grace of what is deleted already by PURGER_RETENTION_DAYS as it is now
    #[arg(long)]
    apply_retention: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct ReceiptsArgs {
    /// The tenant
    #[arg(long, value_name = "TENANT", default_value = "default")]
    tenant: String,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: &PurgeArgs) -> anyhow::Result<()> {
    match &args.command {
        None => super::runtime()?.block_on(purge(&args.run)),
        Some(PurgeCommand::Receipts(args)) => super::runtime()?.block_on(receipts(args)),
        Some(PurgeCommand::Verify(args)) => verify::run(args),
    }
}

async fn purge(args: &RunArgs) -> anyhow::Result<()> {
    let RunArgs { dry_run, tenant, batch_size, apply_retention, consent, common } = args;
    let server = common.remote.needed_server()?;
    if !dry_run {
        let of = tenant.as_deref().map_or("all tenants".to_owned(), |t| format!("tenant {t}"));
        consent.ask(&format!("remove for good what was deleted of {of}"))?;
    }
    let mut body = json!({ "dry_run": dry_run, "apply_retention": apply_retention });
    if let Some(tenant) = tenant {
        body["tenant_id"] = tenant.as_str().into();
    }
    if let Some(batch_size) = batch_size {
        body["batch_size"] = (*batch_size).into();
    }
    let answer = server.post(PURGE, &body).await?;
    print(common, &answer, &told(&answer))
}

/// A purge in words.
fn told(answer: &Value) -> String {
    let n = |name: &str| answer[name].as_u64().unwrap_or(0);
    let verb = if answer["dry_run"] == true { "would remove" } else { "removed" };
    let mut text = format!(
        "{verb} {} documents, {} chunks, {} edges, {} versions of {} tenants\n",
        n("purged_parents"),
        n("purged_chunks"),
        n("purged_edges"),
        n("purged_versions"),
        n("tenants_processed"),
    );
    if n("without_grace") > 0 {
        let n = n("without_grace");
        text.push_str(&format!(
            "{n} deleted nodes have no readable deletion_grace_until and stay\n"
        ));
    }
    text
}

async fn receipts(args: &ReceiptsArgs) -> anyhow::Result<()> {
    let ReceiptsArgs { tenant, common } = args;
    let server = common.remote.needed_server()?;
    let tenant = encode_path(tenant).replace('/', "%2F");
    let mut out = std::io::stdout().lock();
    let mut after = Value::from(0);
    loop {
        let page = server.get(&format!("{RECEIPTS}?tenant_id={tenant}&after={after}")).await?;
        for receipt in page["receipts"].as_array().map_or(&[][..], Vec::as_slice) {
            let text = |name: &str| receipt[name].as_str().unwrap_or_default();
            let line = match common.json {
                true => receipt.to_string(),
                false => format!("{}  {}", text("sha256"), text("body")),
            };
            writeln!(out, "{line}").context("write the receipts")?;
        }
        match &page["next"] {
            Value::Null => return Ok(()),
            next => after = next.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: PurgeArgs,
    }

    #[test]
    fn a_purge_is_a_run_or_a_look_at_receipts() {
        let accepts =
            |line: &str| Line::try_parse_from(format!("purge {line}").split_whitespace()).is_ok();
        assert!(accepts(""));
        assert!(accepts("--dry-run --tenant acme --batch-size 7 --apply-retention"));
        assert!(accepts("receipts --tenant acme"));
        assert!(accepts("verify receipts.txt --head 00"));
        assert!(!accepts("--dry-run receipts"));
        assert!(!accepts("verify"));
    }

    #[test]
    fn a_purge_is_told_in_a_line() {
        let answer = json!({
            "purged_parents": 1, "purged_chunks": 3, "purged_edges": 4, "purged_versions": 0,
            "tenants_processed": 1, "dry_run": true, "without_grace": 2,
        });
        assert_eq!(
            told(&answer),
            "would remove 1 documents, 3 chunks, 4 edges, 0 versions of 1 tenants\n2 deleted nodes have no readable deletion_grace_until and stay\n"
        );
    }
}
