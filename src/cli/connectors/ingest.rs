//! `activekg connectors ingest` and `backfill`: having connectors take in what their sources hold.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{OneArgs, print};

/// How often `--now` looks whether the items are done.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(super) struct IngestArgs {
    /// Only this object; may be given again for more
    #[arg(long = "uri", value_name = "URI")]
    uris: Vec<String>,
    /// Queue at most so many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_items: u32,
    /// Go on after an earlier call, which has printed this
    #[arg(long, value_name = "CURSOR", conflicts_with = "uris")]
    cursor: Option<String>,
    /// Queue them, and wait until nothing of the connector can be worked on any more; without this
    /// flag they are only counted
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    one: OneArgs,
}

#[derive(Args)]
pub(super) struct BackfillArgs {
    /// Queue at most so many
    #[arg(long, value_name = "N", default_value_t = 200)]
    limit: u32,
    /// Only objects whose names begin so
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Only count
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    one: OneArgs,
}

pub(super) async fn ingest(args: &IngestArgs) -> anyhow::Result<()> {
    let IngestArgs { uris, max_items, cursor, now, one } = args;
    let server = one.common.remote.needed_server()?;
    let mut body = json!({
        "tenant_id": one.tenant, "max_items": max_items, "dry_run": !now, "cursor": cursor,
    });
    if !uris.is_empty() {
        body["uris"] = json!(uris);
    }
    let answer = server.post(&one.path("/ingest"), &body).await?;
    if *now {
        let status = one.owned_path("/queue-status");
        // What waits for another attempt, or for a connector, may do so for long.
        while worked_on(&server.get(&status).await?) > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }
    print(&one.common, &answer, &told(&answer, if *now { "queued_count" } else { "would_queue" }))
}

fn worked_on(status: &Value) -> u64 {
    ["ready", "leased"].iter().map(|state| status[state].as_u64().unwrap_or(0)).sum()
}

pub(super) async fn backfill(args: &BackfillArgs) -> anyhow::Result<()> {
    let BackfillArgs { limit, prefix, dry_run, one } = args;
    let body = json!({
        "tenant_id": one.tenant, "limit": limit, "prefix": prefix, "dry_run": dry_run,
    });
    let server = one.common.remote.needed_server()?;
    let answer = server.post(&one.path("/backfill"), &body).await?;
    print(&one.common, &answer, &told(&answer, "queued"))
}

/// One line, and one for where to go on.
fn told(answer: &Value, queued: &str) -> String {
    let n = |name: &str| answer[name].as_u64().unwrap_or(0);
    let found = n("total_found") + n("found");
    let skipped = n("skipped_count") + n("skipped");
    let mut text = format!("{queued}={} skipped={skipped} found={found}\n", n(queued));
    if let Some(cursor) = answer["next_cursor"].as_str() {
        text.push_str(&format!("next: --cursor {cursor}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_line_and_where_to_go_on() {
        let answer =
            json!({"would_queue": 42, "skipped_count": 8, "total_found": 50, "next_cursor": "c"});
        assert_eq!(
            told(&answer, "would_queue"),
            "would_queue=42 skipped=8 found=50\nnext: --cursor c\n"
        );
        let answer = json!({"queued": 1, "skipped": 2, "found": 3, "next_cursor": null});
        assert_eq!(told(&answer, "queued"), "queued=1 skipped=2 found=3\n");
    }
}
