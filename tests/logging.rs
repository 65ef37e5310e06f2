//! The log: the file it can go to as well, and who says what.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::{Options, Request, Server};

/// The lines of a log, which are JSON.
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Waits until the log has a line with this message.
#[track_caller]
fn wait_for(server: &Server, path: &Path, message: &str) -> Value {
    let said = |line: &Value| line["message"].as_str().is_some_and(|said| said.contains(message));
    server.until(&Request::get("/health"), |_| lines(path).iter().any(said));
    lines(path).into_iter().find(said).expect("it was there a moment ago")
}

#[test]
fn the_file_has_every_line_and_outlives_its_own_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("app.log"), dir.path().join("app.log.1"));
    fs::write(&path, "{\"message\":\"of old\"}\n").unwrap();
    let shown = path.to_str().unwrap();
    let mut server = Options::new(&[("ACTIVEKG_LOG_FILE", shown)]).start();
    assert_eq!(wait_for(&server, &path, "of old")["message"], "of old");
    assert!(wait_for(&server, &path, "listening")["address"].is_string());
    assert_eq!(wait_for(&server, &path, "cache subscriber")["component"], "cache-subscriber");
    let of_file = lines(&path).into_iter().skip(1).take(2).map(|line| line.to_string());
    for line in of_file {
        assert!(server.log().contains(&line), "on the standard output too: {line}");
    }

    fs::rename(&path, &moved).unwrap();
    let hung_up = Command::new("kill").args(["-HUP", &server.pid().to_string()]).status().unwrap();
    assert!(hung_up.success());
    wait_for(&server, &path, "the log file is opened anew");
    let n_moved = lines(&moved).len();
    assert!(server.is_alive());
    server.terminate();
    assert!(lines(&path).iter().any(|line| line["message"] == "stopped"));
    assert_eq!(lines(&moved).len(), n_moved, "what was moved away stays as it is");
}

#[test]
fn a_full_disk_does_not_stop_the_server() {
    let server = Server::start(&[("ACTIVEKG_LOG_FILE", "/dev/full")]);
    let id = server.create(&json!({ "classes": ["Doc"], "props": { "text": "a seal" } }));
    assert_eq!(server.get(&format!("/nodes/{id}")).status, 200);
    assert!(server.log().contains("listening"));
}

#[test]
fn workers_say_which_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (log, base) = (dir.path().join("app.log"), dir.path().join("docs"));
    fs::create_dir(&base).unwrap();
    fs::write(base.join("a.txt"), "the seal of pump B").unwrap();
    let (log_file, basedir) = (log.to_str().unwrap(), base.to_str().unwrap());
    let server =
        Server::start(&[("ACTIVEKG_LOG_FILE", log_file), ("ACTIVEKG_FILE_BASEDIRS", basedir)]);
    let body = json!({ "tenant_id": "acme", "config": { "path": basedir } });
    server.post("/_admin/connectors/local/register", &body).expect(200);
    let line = wait_for(&server, &log, "connector item");
    assert_eq!(
        (&line["component"], &line["tenant_id"]),
        (&json!("connector-worker"), &json!("acme"))
    );
    let polled = wait_for(&server, &log, "connector polled");
    assert_eq!(polled["component"], "local-poller");
}
