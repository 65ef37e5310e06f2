//! Results for people.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use anyhow::Context as _;
use serde_json::Value;

/// Characters of a hit's text.
const SNIPPET: usize = 96;

/// A search: the line that repeats it, and its hits.
pub(super) fn search(
    title: &str,
    address: SocketAddr,
    request: &Value,
    found: &Value,
) -> anyhow::Result<()> {
    println!("\n{title}\n  {}", curl(address, "/search", request));
    let results = found["results"].as_array().context("the search answered without results")?;
    for (n, hit) in results.iter().enumerate() {
        let name = hit["props"]["title"].as_str().unwrap_or("?");
        let region = hit["metadata"]["region"].as_str().unwrap_or("");
        println!("  {}. {name}, {region} ({})", n + 1, hit["similarity"]);
        let text = hit["text"].as_str().unwrap_or("");
        println!(
            "     {}",
            snippet(text.strip_prefix(name).unwrap_or(text).trim_start_matches(". "))
        );
    }
    if results.is_empty() {
        println!("  nothing found");
    }
    Ok(())
}

/// A question: the line that repeats it, the answer, and what it cites. `titles` are by node id.
pub(super) fn answer(
    address: SocketAddr,
    request: &Value,
    answer: &Value,
    titles: &HashMap<&str, &str>,
) -> anyhow::Result<()> {
    println!(
        "\nA question, answered from the documents with citations\n  {}",
        curl(address, "/ask", request)
    );
    let text = answer["answer"].as_str().context("the question got no answer")?;
    println!("  {text}");
    let citations = answer["citations"].as_array().map_or(&[][..], Vec::as_slice);
    for (n, citation) in cited(text).into_iter().zip(citations) {
        let id = citation["node_id"].as_str().unwrap_or("?");
        let title = titles.get(id).copied().unwrap_or("?");
        println!("  [{n}] {title}: http://{address}/nodes/{id}");
    }
    println!("  confidence {}", answer["confidence"]);
    Ok(())
}

/// The numbers in square brackets, each once and ascending: the order of the citations.
fn cited(answer: &str) -> BTreeSet<u32> {
    let opened = answer.split('[').skip(1);
    opened.filter_map(|rest| rest.split_once(']')?.0.parse().ok()).collect()
}

/// Where to go from here.
pub(super) fn next(address: SocketAddr, exit: bool) {
    if exit {
        println!("\nactivekg serve keeps data and serves until it is stopped.");
        return;
    }
    println!("\nStill serving on http://{address}. Next:");
    println!("  open http://{address}/docs");
    println!("  curl -s http://{address}/nodes?limit=3");
    let question = serde_json::json!({"question": "What is the highest mountain in Africa?"});
    println!("  {}", curl(address, "/ask", &question));
    println!("Ctrl-C ends it and removes its data.");
}

/// The command that sends the same request.
fn curl(address: SocketAddr, path: &str, request: &Value) -> String {
    // Inside single quotes a shell takes everything but a single quote as it is.
    let body = request.to_string().replace('\'', r"'\''");
    format!("curl -s http://{address}{path} -H 'content-type: application/json' -d '{body}'")
}

/// The beginning of a text on one line, cut at a word.
fn snippet(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if line.chars().count() + word.chars().count() >= SNIPPET {
            line.push_str(" ...");
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_printed_command_survives_the_shell() {
        let address = SocketAddr::from(([127, 0, 0, 1], 8000));
        let line = curl(address, "/ask", &json!({"question": "the world's largest"}));
        assert_eq!(
            line,
            r#"curl -s http://127.0.0.1:8000/ask -H 'content-type: application/json' -d '{"question":"the world'\''s largest"}'"#
        );
    }

    #[test]
    fn cited_numbers_come_once_and_in_order() {
        let numbers: Vec<u32> = cited("A [2]. B [0] and [2], not [x] or [1").into_iter().collect();
        assert_eq!(numbers, [0, 2]);
    }

    #[test]
    fn snippets_end_at_a_word() {
        assert_eq!(snippet("one\ntwo  three"), "one two three");
        let long = snippet(&"wörter ".repeat(40));
        assert!(long.chars().count() <= SNIPPET + 4 && long.ends_with("wörter ..."), "{long}");
    }
}
