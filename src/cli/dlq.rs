//! `activekg dlq`: looking after what queues gave up, their dead letters.

use std::fmt::Write as _;

use activekg_storage::queue::DeadReason;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::json;

use super::queue::common::{Common, Consent, Part, age, lines, print, purged, route};

/// Look after what the queues of a running server gave up
///
/// An item is given up, and kept as a dead letter, when its attempts have ended or no other can succeed. With tokens
/// on, --url needs a token with the scope super_admin; the server on this machine needs none.
#[derive(Args)]
pub(super) struct DlqArgs {
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Subcommand)]
enum DlqCommand {
    /// Print dead letters, the newest first, one JSON object a line
    List(Box<ListArgs>),
    /// Try dead letters again
    ///
    /// They have all their attempts before them again. One stays if a newer item for the same thing is in the queue.
    /// Leaves an entry in the audit trail.
    Replay(Box<ReplayArgs>),
    /// Throw away dead letters
    ///
    /// Asks first, and leaves an entry in the audit trail.
    Clear(Box<ClearArgs>),
}

/// Which dead letters.
#[derive(Args)]
struct Which {
    #[command(flatten)]
    part: Part,
    /// Only the one with this id
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Only those given up for this reason
    #[arg(
        long,
        value_name = "REASON",
        value_parser = PossibleValuesParser::new(DeadReason::ALL.map(DeadReason::as_str))
    )]
    reason: Option<String>,
}

#[derive(Args)]
struct ListArgs {
    #[command(flatten)]
    which: Which,
    /// Begin with the oldest
    #[arg(long)]
    oldest: bool,
    /// Letters to print, at most 1000
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: u32,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct ReplayArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct ClearArgs {
    #[command(flatten)]
    which: Which,
    /// Only letters older than this: 30m, 12h, 7d
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<String>,
    /// But not the newest N of these
    #[arg(long, value_name = "N")]
    keep: Option<u64>,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: &DlqArgs) -> anyhow::Result<()> {
    super::runtime()?.block_on(async {
        match &args.command {
            DlqCommand::List(args) => list(args).await,
            DlqCommand::Replay(args) => replay(args).await,
            DlqCommand::Clear(args) => clear(args).await,
        }
    })
}

async fn list(args: &ListArgs) -> anyhow::Result<()> {
    let ListArgs { which: Which { part, id, reason }, oldest, limit, common } = args;
    let from = if *oldest { "oldest" } else { "newest" };
    let query = [
        ("id", id.clone()),
        ("reason", reason.clone()),
        ("from", Some(from.to_owned())),
        ("limit", Some(limit.to_string())),
    ];
    let answer = common.remote.needed_server()?.get(&part.path("/dead", &query)).await?;
    print(common, &answer, &lines(&answer))
}

async fn replay(args: &ReplayArgs) -> anyhow::Result<()> {
    let ReplayArgs { which: Which { part, id, reason }, common } = args;
    let server = common.remote.needed_server()?;
    let body = json!({ "tenant_id": part.tenant, "id": id, "reason": reason });
    let answer = server.post(&route(&part.queue, "/dead/replay"), &body).await?;
    let mut text = format!("replayed {}", answer["replayed"]);
    if answer["superseded"] != 0 {
        let _ = write!(text, ", {} stay: a newer item is in the queue", answer["superseded"]);
    }
    text.push('\n');
    print(common, &answer, &text)
}

async fn clear(args: &ClearArgs) -> anyhow::Result<()> {
    let ClearArgs { which: Which { part, id, reason }, older_than, keep, consent, common } = args;
    let server = common.remote.needed_server()?;
    let mut what = "throw away all dead letters".to_owned();
    for (word, value) in [("with id", id), ("of reason", reason), ("older than", older_than)] {
        if let Some(value) = value {
            let _ = write!(what, " {word} {value}");
        }
    }
    if let Some(keep) = keep {
        let _ = write!(what, " but the newest {keep}");
    }
    consent.ask(&format!("{what} {}", part.named()))?;
    let query = [
        ("id", id.clone()),
        ("reason", reason.clone()),
        ("older_than", older_than.clone()),
        ("keep", keep.map(|keep| keep.to_string())),
    ];
    let answer = server.delete(&part.path("/dead", &query)).await?;
    print(common, &answer, &purged(&answer))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: DlqArgs,
    }

    fn accepts(line: &str) -> bool {
        Line::try_parse_from(format!("dlq {line}").split_whitespace()).is_ok()
    }

    #[test]
    fn reasons_are_known_words() {
        assert!(accepts("list embedding default --limit 11 --reason crash_loop"));
        assert!(accepts("replay embedding --reason exhausted"));
        assert!(!accepts("replay embedding --reason boredom"));
        assert!(accepts("clear embedding --older-than 30d --keep 5 --yes"));
        assert!(!accepts("clear embedding --older-than tomorrow"));
    }
}
