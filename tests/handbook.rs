//! The examples of the handbook, run as they stand.

use std::fmt::Write as _;
use std::process::Command;

use crate::common::Server;

/// The address in the examples.
const SHOWN: &str = "localhost:8000";

/// What the shell blocks of a page hold, one after the other.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line == "```sh" {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(block.join("\n"));
        }
    }
    blocks
}

/// A script that ends at the first request that is no success, and says which block it is in.
fn script(page: &str, addr: &str) -> String {
    let mut script =
        "set -euo pipefail\ncurl() { command curl --fail-with-body \"$@\"; }\n".to_owned();
    for (n, block) in blocks(page).iter().enumerate() {
        let block = block.replace(SHOWN, addr);
        let _ = writeln!(script, "echo; echo \"block {}\" >&2\n{block}", n + 1);
    }
    script
}

/// Runs the examples of a page against a server of its own: what they printed, if curl is there.
fn run(page: &str) -> Option<String> {
    run_with(page, &[])
}

/// The same, on a server with these settings.
fn run_with(page: &str, env: &[(&str, &str)]) -> Option<String> {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: curl is not installed");
        return None;
    }
    let server = Server::start(env);
    let script = script(page, &server.addr().to_string());
    let ran = Command::new("bash").args(["-c", &script]).output().expect("run bash");
    let (said, failed) =
        (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{failed}\n{said}");
    Some(said.into_owned())
}

#[test]
fn the_examples_of_the_api_page_work() {
    let page = include_str!("../docs/api.md");
    assert!(blocks(page).len() >= 10, "the page has examples");
    if let Some(said) = run(page) {
        assert!(said.contains("trigger_fired") || said.contains("\"events\""), "{said}");
    }
}

#[test]
fn the_examples_of_the_page_on_clients_work() {
    let page = include_str!("../docs/clients.md");
    assert!(blocks(page).len() >= 4, "the page has examples");
    if let Some(said) = run(page) {
        for expected in ["every week [0]", "data: [DONE]", "\"found\":true", "\"expanded\":[{"] {
            assert!(said.contains(expected), "{expected} is not in: {said}");
        }
    }
}

#[test]
fn the_examples_of_the_page_on_connectors_work() {
    let page = include_str!("../docs/connectors-and-keys.md");
    if let Some(said) = run(page) {
        for expected in [r#""status":"registered""#, r#""status":"deleted""#, r#""candidates":0"#] {
            assert!(said.contains(expected), "{expected} is not in: {said}");
        }
        assert!(!said.contains("example/example"), "{said}");
    }
}

#[test]
fn the_examples_of_the_page_on_troubles_work() {
    let page = include_str!("../docs/troubleshooting.md");
    if let Some(said) = run(page) {
        for expected in [
            r#""status":"ready""#,
            r#""workers":[{"queue":"connector","wanted":4,"#,
            r#""purge_deleted_cycle":null"#,
        ] {
            assert!(said.contains(expected), "{expected} is not in: {said}");
        }
    }
}

#[test]
fn the_examples_of_the_page_on_purges_work() {
    let page = include_str!("../docs/purge-and-retention.md");
    if let Some(said) = run(page) {
        let counted = r#""purged_chunks":1,"purged_parents":1,"dry_run":"#;
        for expected in [format!("{counted}true"), format!("{counted}false")] {
            assert!(said.contains(&expected), "{expected} is not in: {said}");
        }
        assert!(said.contains(r#""number":1"#), "{said}");
    }
}

#[test]
fn the_examples_of_the_page_on_how_documents_come_in_work() {
    let page = include_str!("../docs/connectors-ingest.md");
    if let Some(said) = run(page) {
        for expected in [
            r#""queue_key":"connector:http:acme:queue","pending":0"#,
            r#""queue_key":"connector:http:acme:dlq","depth":0"#,
            r#""replayed":0"#,
            r#""cursor":null"#,
            r#""workers":{"connector":{"running":4,"busy":0}}"#,
        ] {
            assert!(said.contains(expected), "{expected} is not in: {said}");
        }
    }
}

#[test]
fn the_examples_of_the_page_on_webhooks_work() {
    let page = include_str!("../docs/webhooks.md");
    let env = [
        ("WEBHOOK_S3_TOKEN", "token-of-the-object-store"),
        ("PUBSUB_VERIFY_SECRET", "secret-of-the-subscription"),
        ("RUN_CONNECTOR_WORKER", "false"),
    ];
    if let Some(said) = run_with(page, &env) {
        for expected in [
            r#""redis":"connected""#,
            r#""status":"queued""#,
            r#""status":"duplicate""#,
            "gs://handbook/manuals/pump 8.pdf",
        ] {
            assert!(said.contains(expected), "{expected} is not in: {said}");
        }
    }
}
