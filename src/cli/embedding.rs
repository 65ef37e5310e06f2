//! `activekg embedding`: where the embeddings of a running server stand.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::queue::common::{Common, print};
use crate::http::routes::encode_path;

const STATUSES: [&str; 6] = ["all", "queued", "processing", "ready", "failed", "skipped"];

/// Look after the embeddings of a running server
#[derive(Args)]
pub(super) struct EmbeddingArgs {
    #[command(subcommand)]
    command: EmbeddingCommand,
}

#[derive(Subcommand)]
enum EmbeddingCommand {
    /// Count nodes by the state of their embedding, and the jobs that wait
    Status(Box<StatusArgs>),
    /// Embed nodes again
    ///
    /// Their attempts are counted anew and their dead letters go. At most 2000 nodes in one call.
    Requeue(Box<RequeueArgs>),
}

#[derive(Args)]
struct StatusArgs {
    /// Only of this tenant [default: all]
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct RequeueArgs {
    /// The tenant
    #[arg(long, value_name = "TENANT", default_value = "default")]
    tenant: String,
    /// Nodes in this state
    #[arg(long, value_name = "STATE", value_parser = STATUSES, default_value = "failed")]
    status: String,
    /// Only nodes without a vector
    #[arg(long)]
    only_missing: bool,
    /// Nodes at most, 1 to 2000
    #[arg(long, value_name = "N", default_value_t = 2000)]
    limit: u32,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: &EmbeddingArgs) -> anyhow::Result<()> {
    super::runtime()?.block_on(async {
        match &args.command {
            EmbeddingCommand::Status(args) => status(args).await,
            EmbeddingCommand::Requeue(args) => requeue(args).await,
        }
    })
}

async fn status(args: &StatusArgs) -> anyhow::Result<()> {
    let StatusArgs { tenant, common } = args;
    let mut path = "/admin/embedding/status".to_owned();
    if let Some(tenant) = tenant {
        path.push_str(&format!("?tenant_id={}", encode_path(tenant).replace('/', "%2F")));
    }
    let answer = common.remote.needed_server()?.get(&path).await?;
    print(common, &answer, &told(&answer))
}

/// A line for each number.
fn told(answer: &Value) -> String {
    let mut text = String::new();
    for (part, name) in [("status_counts", "nodes"), ("queue", "jobs")] {
        for (state, n) in answer[part].as_object().into_iter().flatten() {
            if !n.is_null() {
                text.push_str(&format!("{name:<6} {state:<20} {n}\n"));
            }
        }
    }
    text
}

async fn requeue(args: &RequeueArgs) -> anyhow::Result<()> {
    let RequeueArgs { tenant, status, only_missing, limit, common } = args;
    let body = json!({
        "tenant_id": tenant, "status": status, "only_missing_embedding": only_missing,
        "limit": limit,
    });
    let server = common.remote.needed_server()?;
    let answer = server.post("/admin/embedding/requeue", &body).await?;
    let text = format!(
        "queued {} nodes, called {} ready that have a vector\n",
        answer["enqueued"], answer["backfilled"]
    );
    print(common, &answer, &text)
}
