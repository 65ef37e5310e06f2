//! `activekg mcp`: the graph as tools for a program that starts its servers itself.
//!
//! A bridge and nothing more: each line of standard input goes to POST /mcp of a running server,
//! each answer becomes a line of standard output. The server keeps nothing between two messages,
//! so several may be under way, and it may be restarted in between.

use std::io::{self, BufRead, Read as _, Write as _};
use std::pin::pin;

use anyhow::Context as _;
use clap::Args;
use futures_util::{StreamExt as _, stream};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::remote::Client;
use crate::config::options::RemoteOptions;
use crate::mcp;

/// Messages under way at once.
const UNDER_WAY_MAX: usize = 8;
/// Bytes of a message. The server has a limit of its own, which is lower by default.
const LINE_MAX: u64 = 64 << 20;
/// Code of an error that is neither the client's nor the server's.
const BRIDGE_ERROR: i32 = -32000;

/// Serve the graph as tools to an editor or an agent, over standard input and output
///
/// For programs that start the servers of the Model Context Protocol themselves. The graph is that of the server that
/// runs on the data directory, or of the one at --url. Programs that talk HTTP use its address `/mcp` directly.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct McpArgs {
    /// Tenant to work for, while the server takes no tokens
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    #[command(flatten)]
    remote: RemoteOptions,
}

const AFTER_HELP: &str = "\
Example, in the settings of an editor:
  { \"mcpServers\": { \"activekg\": { \"command\": \"activekg\", \"args\": [\"mcp\"] } } }";

pub(super) fn run(args: &McpArgs) -> anyhow::Result<()> {
    super::runtime()?.block_on(async {
        let client = args.remote.needed_server()?;
        let path = path(args.tenant.as_deref())?;
        let lines = stream::unfold(lines(), |mut lines| async move {
            lines.recv().await.map(|line| (line, lines))
        });
        let answers = lines.map(|line| answer(&client, &path, line));
        let mut answers = pin!(answers.buffer_unordered(UNDER_WAY_MAX));
        let mut out = io::stdout();
        while let Some(answer) = answers.next().await {
            if let Some(answer) = answer? {
                writeln!(out, "{answer}").and_then(|()| out.flush()).context("write an answer")?;
            }
        }
        Ok(())
    })
}

/// The path of the server that takes messages.
fn path(tenant: Option<&str>) -> anyhow::Result<String> {
    let Some(tenant) = tenant else { return Ok("/mcp".to_owned()) };
    let url = Url::parse_with_params("http://localhost/mcp", [("tenant_id", tenant)])?;
    Ok(format!("/mcp?{}", url.query().unwrap_or_default()))
}

/// The lines of standard input that are not blank, until it ends. A thread of its own reads them,
/// as reading blocks; it ends with the process.
fn lines() -> mpsc::Receiver<io::Result<String>> {
    let (lines, read) = mpsc::channel(UNDER_WAY_MAX);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut line = Vec::new();
            let next = input.by_ref().take(LINE_MAX).read_until(b'\n', &mut line);
            let line = match next {
                Ok(0) => return,
                Ok(_) => Ok(String::from_utf8_lossy(&line).trim().to_owned()),
                Err(error) => Err(error),
            };
            let failed = line.is_err();
            let blank = line.as_ref().is_ok_and(String::is_empty);
            if (!blank && lines.blocking_send(line).is_err()) || failed {
                return;
            }
        }
    });
    read
}

/// The line that answers a line, if it wants an answer.
///
/// # Errors
///
/// When standard input fails. A server that fails is told to the client in the protocol's way.
async fn answer(
    client: &Client,
    path: &str,
    line: io::Result<String>,
) -> anyhow::Result<Option<String>> {
    let line = line.context("read standard input")?;
    let answered = client.exchange(path, line.clone()).await;
    Ok(match answered {
        Ok(answer) if answer.is_empty() => None,
        Ok(answer) => told(&line, &answer),
        Err(error) => refused(&line, &format!("{error:#}")),
    })
}

/// The answer on one line. A refusal of the server that names no request is about this one.
fn told(line: &str, answer: &str) -> Option<String> {
    let Ok(mut value) = serde_json::from_str::<Value>(answer) else {
        return refused(line, "the server's answer is not JSON");
    };
    if value["id"].is_null() && value["error"].is_object() {
        match asked(line) {
            Asked::One(id) => value["id"] = id,
            Asked::Several(_) => {
                let text = value["error"]["message"].as_str().unwrap_or_default();
                return refused(line, text);
            }
            Asked::Nothing => return None,
            Asked::Nonsense => {}
        }
    }
    Some(value.to_string())
}

/// The line that tells every request of `line` that there will be no answer.
fn refused(line: &str, text: &str) -> Option<String> {
    let error = |id: &Value| mcp::error(id, BRIDGE_ERROR, text, None);
    match asked(line) {
        Asked::One(id) => Some(error(&id).to_string()),
        Asked::Several(ids) => Some(json!(ids.iter().map(error).collect::<Vec<_>>()).to_string()),
        Asked::Nothing => None,
        Asked::Nonsense => Some(error(&Value::Null).to_string()),
    }
}

/// What a line wants answers to.
#[derive(Debug, PartialEq)]
enum Asked {
    One(Value),
    Several(Vec<Value>),
    Nothing,
    Nonsense,
}

fn asked(line: &str) -> Asked {
    let request = |message: &Value| {
        let id = message.get("id").filter(|_| message.get("method").is_some());
        id.cloned()
    };
    match serde_json::from_str::<Value>(line) {
        Ok(Value::Array(messages)) => {
            let ids: Vec<Value> = messages.iter().filter_map(request).collect();
            if ids.is_empty() { Asked::Nothing } else { Asked::Several(ids) }
        }
        Ok(message @ Value::Object(_)) => request(&message).map_or(Asked::Nothing, Asked::One),
        Ok(_) | Err(_) => Asked::Nonsense,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: &str = r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#;

    #[test]
    fn every_request_hears_of_a_failure_and_nobody_else() {
        assert_eq!(asked(PING), Asked::One(json!(7)));
        let batch = format!(r#"[{PING},{{"jsonrpc":"2.0","method":"notifications/x"}}]"#);
        assert_eq!(asked(&batch), Asked::Several(vec![json!(7)]));
        for nothing in ["[]", r#"{"method":"notifications/x"}"#, r#"{"id":1,"result":{}}"#] {
            assert_eq!(refused(nothing, "gone"), None, "{nothing}");
        }
        let told = refused(PING, "gone").expect("an answer");
        let expected = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"gone"}}"#;
        assert_eq!(told, expected);
        assert!(refused("nonsense", "gone").expect("an answer").contains(r#""id":null"#));
    }

    #[test]
    fn a_refusal_in_general_answers_the_request_at_hand() {
        let general = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no"}}"#;
        let told = told(PING, general).expect("an answer");
        assert!(told.contains(r#""id":7"#), "{told}");
        let answer = "{\n \"jsonrpc\": \"2.0\", \"id\": 7, \"result\": {}\n}";
        let line = super::told(PING, answer).expect("an answer");
        assert_eq!(line, r#"{"jsonrpc":"2.0","id":7,"result":{}}"#);
        assert!(super::told(PING, "<html>").expect("an answer").contains("not JSON"));
    }

    #[test]
    fn the_tenant_is_part_of_the_address() {
        assert_eq!(path(None).expect("a path"), "/mcp");
        assert_eq!(path(Some("a&b c")).expect("a path"), "/mcp?tenant_id=a%26b+c");
    }
}
