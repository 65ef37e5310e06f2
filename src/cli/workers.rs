//! `activekg workers`: the workers of a running server.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, value_parser};
use serde_json::{Value, json};

use super::queue::common::{Common, print};
use crate::jobs::CREW_MAX;

const WORKERS: &str = "/_admin/workers";
const QUEUES: [&str; 1] = ["connector"];

/// Look after the workers of a running server
///
/// With tokens on, --url needs a token with the scope super_admin; the server on this machine needs none.
#[derive(Args)]
pub(super) struct WorkersArgs {
    #[command(subcommand)]
    command: WorkersCommand,
}

#[derive(Subcommand)]
enum WorkersCommand {
    /// Say how many run, and how many of them work
    Status(Box<Common>),
    /// Let workers finish what they hold, then begin anew
    ///
    /// What they cannot finish soon goes back into the queue.
    Restart(Box<RestartArgs>),
    /// Change how many run, until the server ends
    ///
    /// CONNECTOR_WORKER_CONCURRENCY keeps the number over a restart of the server.
    Scale(Box<ScaleArgs>),
}

#[derive(Args)]
struct RestartArgs {
    /// The queue they work on
    #[arg(default_value = "connector", value_parser = PossibleValuesParser::new(QUEUES))]
    queue: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct ScaleArgs {
    /// The queue they work on
    #[arg(value_parser = PossibleValuesParser::new(QUEUES))]
    queue: String,
    /// How many are to run, 0 to 64
    #[arg(value_name = "N", value_parser = value_parser!(u64).range(0..=CREW_MAX as u64))]
    n: u64,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: &WorkersArgs) -> anyhow::Result<()> {
    super::runtime()?.block_on(async {
        match &args.command {
            WorkersCommand::Status(common) => {
                let answer = common.remote.needed_server()?.get(WORKERS).await?;
                print(common, &answer, &table(&answer))
            }
            WorkersCommand::Restart(args) => {
                let RestartArgs { queue, common } = &**args;
                let server = common.remote.needed_server()?;
                let answer = server.post(&format!("{WORKERS}/{queue}/restart"), &json!({})).await?;
                let text = format!("{} {queue} workers began anew\n", answer["workers"]);
                print(common, &answer, &text)
            }
            WorkersCommand::Scale(args) => {
                let ScaleArgs { queue, n, common } = &**args;
                let server = common.remote.needed_server()?;
                let body = json!({ "workers": n });
                let answer = server.post(&format!("{WORKERS}/{queue}/scale"), &body).await?;
                print(common, &answer, &scaled(queue, &answer))
            }
        }
    })
}

fn table(answer: &Value) -> String {
    let mut text = "queue\twanted\trunning\tbusy\n".to_owned();
    for crew in answer["workers"].as_array().map_or(&[][..], Vec::as_slice) {
        let queue = crew["queue"].as_str().unwrap_or("-");
        let (wanted, running, busy) = (&crew["wanted"], &crew["running"], &crew["busy"]);
        text.push_str(&format!("{queue}\t{wanted}\t{running}\t{busy}\n"));
    }
    text
}

fn scaled(queue: &str, answer: &Value) -> String {
    let (before, now) = (&answer["before"], &answer["workers"]);
    format!(
        "{queue} workers: {before} before, {now} until the server ends; CONNECTOR_WORKER_CONCURRENCY={now} keeps that\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_a_line() {
        let answer =
            json!({"workers": [{"queue": "connector", "wanted": 4, "running": 3, "busy": 1}]});
        assert_eq!(table(&answer), "queue\twanted\trunning\tbusy\nconnector\t4\t3\t1\n");
        let said = scaled("connector", &json!({"before": 4, "workers": 3}));
        assert!(said.contains("CONNECTOR_WORKER_CONCURRENCY=3"), "{said}");
    }
}
