//! The examples of the handbook, run as they stand.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::common::{Server, of_checkout};

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
    let mut script = "set -euo pipefail\n\
        curl() { command curl --fail-with-body \"$@\"; }\n\
        activekg() { \"$PROGRAM\" \"$@\"; }\n"
        .to_owned();
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
    run_on(&Server::start(env), page)
}

/// The same, on this server. Commands of the program ask it too.
fn run_on(server: &Server, page: &str) -> Option<String> {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: curl is not installed");
        return None;
    }
    let script = script(page, &server.addr().to_string());
    let ran = Command::new("bash")
        .args(["-c", &script])
        .env("PROGRAM", env!("CARGO_BIN_EXE_activekg"))
        .env("ACTIVEKG_DATA_DIR", server.dir())
        .output()
        .expect("run bash");
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
        for expected in [r#""status":"registered""#, r#""status":"deleted""#] {
            assert!(said.contains(expected), "{expected} is not in: {said}");
        }
        assert!(!said.contains("example/example"), "{said}");
    }
}

/// Starts a server again with these settings changed, and finds that the log says what the page has.
fn restart(server: &mut Server, changes: &[(&str, &str)], page: &str, passed: &str) {
    let line = format!("KEK validation passed ({passed})");
    assert!(page.contains(&format!("`{line}`")), "{line}");
    assert!(server.terminate().success());
    server.start_again(changes);
    server.logged(&line);
}

/// The page word for word, with the restarts that it asks for; the keys are those of the test.
#[test]
fn the_drill_of_key_rotation_works() {
    const V1: &str = "XJH_LEyC34c8orsnRbFR5Rvac7FF0J4ah30u7HIORXM=";
    const V2: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let page = include_str!("../docs/key-rotation.md");
    let mut server = Server::start(&[("CONNECTOR_KEK_V1", V1), ("RUN_CONNECTOR_WORKER", "false")]);
    for tenant in ["acme", "corp"] {
        let secret = "s".repeat(40);
        let config = json!({ "bucket": "docs", "access_key_id": "A".repeat(16), "secret_access_key": secret });
        let body = json!({ "tenant_id": tenant, "config": config });
        server.post("/_admin/connectors/s3/register", &body).expect(200);
    }
    restart(&mut server, &[("CONNECTOR_KEK_V2", V2)], page, "active version: 1, versions: 2");
    restart(
        &mut server,
        &[("CONNECTOR_KEK_ACTIVE_VERSION", "2")],
        page,
        "active version: 2, versions: 2",
    );
    let Some(said) = run_on(&server, page) else { return };
    for expected in [
        "Active version: 2\nAvailable versions: [1, 2]\npending=2 total=2\n",
        "candidates=2\n",
        "rotated=1 skipped=0 errors=0\n",
        "pending=1 total=2\n",
        "candidates=0\n",
        "Version 1 is not in use. Unset CONNECTOR_KEK_V1 and restart",
        r#""candidates":0"#,
    ] {
        assert!(said.contains(expected), "{expected} is not in: {said}");
    }
    restart(&mut server, &[("CONNECTOR_KEK_V1", "")], page, "active version: 2, versions: 1");
    assert!(!server.log().contains("connector configs need KEK v1"), "{}", server.log());
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

/// The name by which a heading is linked to, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The anchors of a page.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn every_alert_has_its_place_in_the_page_on_troubles() {
    let rules = include_str!("../packaging/observability/alerts/connector_alerts.yml");
    let page = include_str!("../docs/troubleshooting.md");
    let rows = |alert: &str| {
        page.lines().filter(|line| line.starts_with("| ")).find(|line| {
            // Among the symptoms, with something to look at and something to do.
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
            let whole = cells.len() >= 3 && cells.iter().all(|cell| cell.trim().len() > 3);
            whole && cells[0].contains(&format!("`{alert}`"))
        })
    };
    let anchors = anchors(page);
    let (mut n_alerts, mut faults) = (0, Vec::new());
    for rule in rules.split("- alert: ").skip(1) {
        n_alerts += 1;
        let alert = rule.lines().next().expect("a name");
        if rows(alert).is_none() {
            faults.push(format!("{alert} has no row"));
        }
        let runbook = rule.split("runbook: \"#").nth(1).and_then(|rest| rest.split_once('"'));
        match runbook {
            Some((runbook, _)) if anchors.contains(runbook) => {}
            _ => faults.push(format!("{alert} leads to {runbook:?}, of {anchors:?}")),
        }
    }
    assert!(n_alerts >= 20, "{n_alerts} alerts");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn links_between_pages_lead_somewhere() {
    let docs = &of_checkout("docs");
    let read = |path: &Path| fs::read_to_string(path).expect("a page");
    let (mut n_links, mut faults, mut listed) = (0, Vec::new(), BTreeSet::new());
    let mut pages: Vec<PathBuf> = fs::read_dir(docs)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    let readme = docs.with_file_name("README.md");
    pages.push(readme.clone());
    for page in &pages {
        let text = read(page);
        for link in text.split("](").skip(1) {
            let (link, _) = link.split_once(')').expect("it is closed");
            if link.contains("://") {
                continue;
            }
            n_links += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            if *page == readme {
                listed.insert(target.clone());
            }
            let found = target.exists()
                && (heading.is_empty() || anchors(&read(&target)).contains(heading));
            if !found {
                faults.push(format!("{}: {link}", page.display()));
            }
        }
    }
    let pages = pages.iter().filter(|page| **page != readme && !listed.contains(*page));
    faults.extend(pages.map(|page| format!("README.md does not list {}", page.display())));
    assert!(n_links >= 30, "{n_links} links");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
