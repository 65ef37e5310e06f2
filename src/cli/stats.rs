//! `activekg stats`: what came and what was deleted.

use clap::{Args, Subcommand};

use super::queue::common::{Common, age, print};
use crate::http::routes::encode_path;

/// Count what came and what was deleted
#[derive(Args)]
pub(super) struct StatsArgs {
    #[command(subcommand)]
    command: StatsCommand,
}

#[derive(Subcommand)]
enum StatsCommand {
    /// Count the nodes that came, by the hour
    Ingest(Box<IngestArgs>),
    /// Count the deleted nodes that are kept
    Deleted(Box<DeletedArgs>),
}

#[derive(Args)]
struct IngestArgs {
    /// How far back, 1 to 8784
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    hours: u32,
    /// Only of this tenant [default: all]
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct DeletedArgs {
    /// How long deleted: 30m, 12h, 30d
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<String>,
    /// Only of this tenant [default: all]
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: &StatsArgs) -> anyhow::Result<()> {
    super::runtime()?.block_on(async {
        match &args.command {
            StatsCommand::Ingest(args) => ingest(args).await,
            StatsCommand::Deleted(args) => deleted(args).await,
        }
    })
}

fn with_tenant(path: String, tenant: Option<&String>) -> String {
    match tenant {
        Some(tenant) => format!("{path}&tenant_id={}", encode_path(tenant).replace('/', "%2F")),
        None => path,
    }
}

async fn ingest(args: &IngestArgs) -> anyhow::Result<()> {
    let IngestArgs { hours, tenant, common } = args;
    let path = with_tenant(format!("/_admin/stats/ingest?hours={hours}"), tenant.as_ref());
    let answer = common.remote.needed_server()?.get(&path).await?;
    let mut text = "hour\tdocuments\tchunks\n".to_owned();
    for hour in answer["ingested"].as_array().map_or(&[][..], Vec::as_slice) {
        let at = hour["hour"].as_str().unwrap_or("-");
        text.push_str(&format!("{at}\t{}\t{}\n", hour["documents"], hour["chunks"]));
    }
    print(common, &answer, &text)
}

async fn deleted(args: &DeletedArgs) -> anyhow::Result<()> {
    let DeletedArgs { older_than, tenant, common } = args;
    let age = older_than.as_deref().map_or(String::new(), |age| format!("older_than={age}"));
    let path = with_tenant(format!("/_admin/stats/deleted?{age}"), tenant.as_ref());
    let answer = common.remote.needed_server()?.get(&path).await?;
    let mut text = format!("deleted {}\n", answer["deleted"]);
    if let Some(age) = older_than {
        text.push_str(&format!("deleted more than {age} ago {}\n", answer["older"]));
    }
    text.push_str(&format!(
        "due to be purged {}\nwithout a readable end of grace {}\n",
        answer["due"], answer["without_grace"]
    ));
    print(common, &answer, &text)
}
