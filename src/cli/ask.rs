//! `activekg ask`: a question to a running server.

mod events;

use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::Args;
use reqwest::Url;
use serde_json::{Map, Value};

use super::remote::Client;
use crate::config::options::RemoteOptions;
use events::Event;

/// Longest question, in characters; the server takes no longer ones.
const QUESTION_MAX: usize = 1000;

/// Ask a running server a question
///
/// The answer appears as it is written, the sources it cites below it. The server is the one that runs on the data
/// directory, or the one at --url. Ends with 0 also when the server knows no answer, and says so.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct AskArgs {
    /// The question
    question: String,
    /// Most sources to answer from, 1 to 20
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=20))]
    max_results: Option<u8>,
    /// Tenant to ask for, while the server takes no tokens
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Print the answer of POST /ask as it is, once it is complete
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: RemoteOptions,
}

const AFTER_HELP: &str = "\
Examples:
  activekg ask \"How often is the seal of pump B checked?\"
  activekg ask --json \"Who wrote the report?\" | jq .confidence
  activekg ask --url https://kg.example.org --token \"$TOKEN\" \"What changed?\"";

pub(super) fn run(args: &AskArgs) -> anyhow::Result<()> {
    let question = args.question.split_whitespace().collect::<Vec<_>>().join(" ");
    let chars = question.chars().count();
    if question.is_empty() || chars > QUESTION_MAX {
        anyhow::bail!("a question has 1 to {QUESTION_MAX} characters, this one {chars}");
    }
    let mut body = Map::new();
    body.insert("question".to_owned(), question.into());
    if let Some(most) = args.max_results {
        body.insert("max_results".to_owned(), most.into());
    }
    if let Some(tenant) = &args.tenant {
        body.insert("tenant_id".to_owned(), tenant.as_str().into());
    }
    let body = Value::Object(body);
    super::runtime()?.block_on(async {
        let client = args.remote.needed_server()?;
        if args.json {
            let answer = client.post("/ask", &body).await?;
            return print(&format!("{}\n", serde_json::to_string_pretty(&answer)?));
        }
        ask(&client, &body, args.tenant.as_deref()).await
    })
}

/// Prints the answer as it comes, then its sources.
async fn ask(client: &Client, body: &Value, tenant: Option<&str>) -> anyhow::Result<()> {
    let mut told = String::new();
    let mut last = None;
    let streamed = client.events("/ask/stream", body, |event| {
        match Event::read(event)? {
            Event::Context => {}
            Event::Token(text) => {
                print(&text)?;
                told.push_str(&text);
            }
            Event::Final(answer) => last = Some(answer),
            Event::Failed(message) => {
                // What was told stays on its own line.
                if !told.is_empty() {
                    println!();
                }
                anyhow::bail!("the server could not answer: {message}");
            }
        }
        Ok(())
    });
    streamed.await?;
    let last = last.context("the answer broke off; see the log of the server")?;
    // A refusal comes at once, with nothing before it.
    let text = last["answer"].as_str().context("the server's answer has no text")?;
    if told.trim().is_empty() {
        print(text)?;
    }
    print("\n")?;
    let citations = last["citations"].as_array().map_or(&[][..], Vec::as_slice);
    if !citations.is_empty() {
        print("\n")?;
    }
    for (number, citation) in cited(text).into_iter().zip(citations) {
        let id = citation["node_id"].as_str().unwrap_or_default();
        let title = title(client, id, tenant).await;
        print(&format!("[{number}] {title}  {}\n", escape(id)))?;
    }
    print(&format!("\nconfidence {}\n", last["confidence"]))
}

/// The numbers in square brackets, each once and ascending: the order of the citations. Numbers
/// that no source has come last, and the list of citations ends before them.
fn cited(answer: &str) -> Vec<usize> {
    crate::ask::citation::indexes(answer)
}

/// What a node is called: its title, else how its text begins, else its classes. A node that
/// cannot be read, as another token may not, has no title.
async fn title(client: &Client, id: &str, tenant: Option<&str>) -> String {
    // Ids come from the server: one that is no id goes into no path.
    if !id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        return "?".to_owned();
    }
    let query = tenant.and_then(|tenant| {
        let url = Url::parse_with_params("http://localhost", [("tenant_id", tenant)]).ok()?;
        url.query().map(|query| format!("?{query}"))
    });
    match client.get(&format!("/nodes/{id}{}", query.unwrap_or_default())).await {
        Ok(node) => named(&node),
        Err(_) => "?".to_owned(),
    }
}

fn named(node: &Value) -> String {
    const TITLE_MAX: usize = 80;
    let props = &node["props"];
    let keys = ["title", "name", "job_title", "filename", "text", "content", "body"];
    let text =
        keys.iter().find_map(|key| props[key].as_str().filter(|text| !text.trim().is_empty()));
    let classes = || {
        let classes = node["classes"].as_array().map_or(&[][..], Vec::as_slice);
        classes.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    let text =
        text.map_or_else(classes, |text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut title: String = text.chars().take(TITLE_MAX).collect();
    if title.len() < text.len() {
        title.push('…');
    }
    escape(&title)
}

/// `text` without control characters, which a terminal might obey.
fn escape(text: &str) -> String {
    text.chars()
        .map(|letter| {
            if letter.is_control() && !matches!(letter, '\n' | '\t') { '\u{fffd}' } else { letter }
        })
        .collect()
}

/// To standard output, at once.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(escape(text).as_bytes()).and_then(|()| out.flush()).context("print the answer")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_called_by_its_title_or_by_how_it_begins() {
        let called = |props: Value| named(&json!({ "classes": ["Doc", "Memo"], "props": props }));
        assert_eq!(called(json!({ "title": "Pump B", "text": "x" })), "Pump B");
        assert_eq!(called(json!({ "title": " ", "text": "The\n seal" })), "The seal");
        assert_eq!(called(json!({ "other": 1 })), "Doc, Memo");
        assert_eq!(called(json!({ "text": "é".repeat(200) })).chars().count(), 81);
        assert_eq!(called(json!({ "title": "a\u{1b}[2Jb" })), "a\u{fffd}[2Jb");
    }
}
