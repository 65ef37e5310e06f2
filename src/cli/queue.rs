//! `activekg queue`: looking after the queues of a running server.

pub(super) mod common;

use std::fmt::Write as _;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use common::{Common, Consent, Part, age, lines, print, purged, route};

/// Look after the queues of a running server
///
/// A queue keeps its items in the store until they are done. With tokens on, --url needs a token with the scope
/// super_admin; the server on this machine needs none.
#[derive(Args)]
pub(super) struct QueueArgs {
    #[command(subcommand)]
    command: QueueCommand,
}

#[derive(Subcommand)]
enum QueueCommand {
    /// List the queues
    List(Box<Common>),
    /// Print how many items are not done
    ///
    /// With --json, also how many of them are ready, delayed, leased and held, and how many were given up.
    Depth(Box<DepthArgs>),
    /// Print items, one JSON object a line
    Peek(Box<PeekArgs>),
    /// Throw away items that wait
    ///
    /// Never those that a worker has. They are not given up but gone; nodes that waited for their embedding are marked
    /// as failed with the error job_purged. Asks first, and leaves an entry in the audit trail.
    Purge(Box<PurgeArgs>),
    /// Start no more items; those under way are finished
    Pause(Box<SwitchArgs>),
    /// Start items again
    Resume(Box<SwitchArgs>),
}

#[derive(Args)]
struct DepthArgs {
    #[command(flatten)]
    part: Part,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct PeekArgs {
    #[command(flatten)]
    part: Part,
    /// Begin with the oldest, as without this flag
    #[arg(long, conflicts_with = "newest")]
    oldest: bool,
    /// Begin with the newest
    #[arg(long)]
    newest: bool,
    /// Items to print, at most 1000
    #[arg(long, value_name = "N", default_value_t = 1)]
    limit: u32,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
#[command(group = ArgGroup::new("which").args(["keep", "older_than", "all"]).required(true).multiple(true))]
struct PurgeArgs {
    #[command(flatten)]
    part: Part,
    /// All but the newest N of each tenant
    #[arg(long, value_name = "N")]
    keep: Option<u64>,
    /// Only items older than this: 30m, 12h, 7d
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<String>,
    /// All
    #[arg(long, conflicts_with_all = ["keep", "older_than"])]
    all: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct SwitchArgs {
    /// Name of the queue, as `activekg queue list` prints it
    queue: String,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: &QueueArgs) -> anyhow::Result<()> {
    super::runtime()?.block_on(async {
        match &args.command {
            QueueCommand::List(args) => list(args).await,
            QueueCommand::Depth(args) => depth(args).await,
            QueueCommand::Peek(args) => peek(args).await,
            QueueCommand::Purge(args) => purge(args).await,
            QueueCommand::Pause(args) => switch(args, "/pause").await,
            QueueCommand::Resume(args) => switch(args, "/resume").await,
        }
    })
}

async fn list(common: &Common) -> anyhow::Result<()> {
    let answer = common.remote.needed_server()?.get("/admin/queues").await?;
    print(common, &answer, &table(&answer))
}

/// The queues, a line each.
pub(super) fn table(answer: &Value) -> String {
    let mut text = format!(
        "{:<16} {:<8} {:>9} {:>9} {:>9} {:>9} {:>9}  oldest\n",
        "queue", "state", "ready", "delayed", "leased", "held", "dead"
    );
    for queue in answer["queues"].as_array().map_or(&[][..], Vec::as_slice) {
        let name = queue["queue"].as_str().unwrap_or("-");
        let state = if queue["paused"] == true { "paused" } else { "running" };
        let _ = write!(text, "{name:<16} {state:<8}");
        for depth in ["ready", "delayed", "leased", "held", "dead"] {
            let _ = write!(text, " {:>9}", queue["depths"][depth].as_u64().unwrap_or(0));
        }
        match queue["oldest_age_seconds"].as_f64() {
            Some(age) => text.push_str(&format!("  {age:.0} s\n")),
            None => text.push_str("  -\n"),
        }
    }
    text
}

async fn depth(args: &DepthArgs) -> anyhow::Result<()> {
    let DepthArgs { part, common } = args;
    let answer = common.remote.needed_server()?.get(&part.path("", &[])).await?;
    let depths = match part.tenant {
        Some(_) => &answer["tenants"][0]["depths"],
        None => &answer["depths"],
    };
    let n = |state: &str| depths[state].as_u64().unwrap_or(0);
    let live: u64 = ["ready", "delayed", "leased", "held"].map(n).into_iter().sum();
    print(common, depths, &format!("{live}\n"))
}

async fn peek(args: &PeekArgs) -> anyhow::Result<()> {
    let PeekArgs { part, oldest: _, newest, limit, common } = args;
    let from = if *newest { "newest" } else { "oldest" };
    let query = [("from", Some(from.to_owned())), ("limit", Some(limit.to_string()))];
    let answer = common.remote.needed_server()?.get(&part.path("/items", &query)).await?;
    print(common, &answer, &lines(&answer))
}

async fn purge(args: &PurgeArgs) -> anyhow::Result<()> {
    let PurgeArgs { part, keep, older_than, all, consent, common } = args;
    let server = common.remote.needed_server()?;
    let mut what = "throw away all waiting items".to_owned();
    if let Some(age) = older_than {
        let _ = write!(what, " older than {age}");
    }
    if let Some(keep) = keep {
        let _ = write!(what, " but the newest {keep}");
        what.push_str(if part.tenant.is_none() { " of each tenant" } else { "" });
    }
    consent.ask(&format!("{what} {}", part.named()))?;
    let query = [
        ("keep", keep.map(|keep| keep.to_string())),
        ("older_than", older_than.clone()),
        ("all", all.then(|| "true".to_owned())),
    ];
    let answer = server.delete(&part.path("/items", &query)).await?;
    print(common, &answer, &purged(&answer))
}

async fn switch(args: &SwitchArgs, way: &str) -> anyhow::Result<()> {
    let SwitchArgs { queue, common } = args;
    let server = common.remote.needed_server()?;
    let answer = server.post(&route(queue, way), &json!({})).await?;
    let state = if answer["paused"] == true { "paused" } else { "running" };
    let already = if answer["changed"] == true { "" } else { ", as before" };
    print(common, &answer, &format!("{queue}: {state}{already}\n"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: QueueArgs,
    }

    fn accepts(line: &str) -> bool {
        Line::try_parse_from(format!("queue {line}").split_whitespace()).is_ok()
    }

    #[test]
    fn a_purge_says_what_goes() {
        assert!(!accepts("purge embedding"));
        assert!(!accepts("purge embedding --all --keep 1"));
        assert!(!accepts("purge embedding --older-than 7"));
        assert!(accepts("purge embedding default --keep 1 --older-than 7d --yes"));
        assert!(accepts("purge embedding --all"));
    }

    #[test]
    fn a_peek_begins_at_one_end() {
        assert!(accepts("peek embedding default --oldest"));
        assert!(accepts("peek embedding --newest --limit 11"));
        assert!(!accepts("peek embedding --oldest --newest"));
    }

    #[test]
    fn queues_are_a_table() {
        let answer = json!({"queues": [{
            "queue": "embedding", "paused": true, "oldest_age_seconds": 12.3, "evicted": 0,
            "depths": {"ready": 3, "delayed": 0, "leased": 1, "held": 0, "dead": 2},
        }]});
        let text = table(&answer);
        let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words, ["embedding", "paused", "3", "0", "1", "0", "2", "12", "s"]);
    }
}
