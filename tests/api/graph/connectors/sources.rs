//! What the sources of connectors hold is found and queued.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use activekg_storage::tables::connectors::POLLED;
use activekg_storage::{Readable as _, Scan, Store, StoreOptions};
use serde_json::{Value, json};

use super::{QUIET, at, register};
use crate::common::token::{JWT_ENV, token};
use crate::common::{Options, Request, Server};

fn tried(server: &Server, provider: &str, body: &Value) -> Value {
    server.post(&at(&format!("{provider}/test")), body).expect(200)
}

/// The addresses that polling knows, once the server is down.
fn polled(server: &mut Server) -> Vec<String> {
    assert!(server.terminate().success());
    let store = Store::open(server.dir(), StoreOptions::default()).unwrap();
    let snapshot = store.read().unwrap();
    let rows = snapshot.scan(&POLLED, Scan::all()).unwrap();
    let known = rows.map(|row| row.unwrap().0.2).collect();
    drop(snapshot);
    store.close();
    known
}

fn wait_for_run(server: &Server, provider: &str, tenant: &str) {
    let counted =
        format!("connector_poller_runs_total{{provider=\"{provider}\",tenant=\"{tenant}\"}} 1");
    server.until(&Request::get("/prometheus"), |answer| answer.text().contains(&counted));
}

#[test]
fn a_folder_is_tried_out_and_polled() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.md", "b.md", "c.txt"] {
        fs::write(folder.path().join(name), name).unwrap();
    }
    let base = folder.path().to_str().unwrap();
    let mut server = Options::new(&[("ACTIVEKG_FILE_BASEDIRS", base)]).start();
    let config = json!({ "path": base, "include_globs": ["*.md"] });
    let unsaved = tried(&server, "local", &json!({ "tenant_id": "acme", "config": config }));
    let success = json!({ "status": "success",
        "message": "Successfully connected to local folder", "objects_found": 1 });
    assert_eq!(unsaved, success);
    let saved = server.post(&at("local/test"), &json!({ "tenant_id": "acme" })).expect(404);
    assert_eq!(saved["detail"], "Connector not found: acme/local");
    register(&server, "local", "acme", &config);
    assert_eq!(tried(&server, "local", &json!({ "tenant_id": "acme" })), success);
    let gone = json!({ "path": format!("{base}/none") });
    let gone = tried(&server, "local", &json!({ "config": gone }));
    assert_eq!((&gone["status"], &gone["error_type"]), (&json!("error"), &json!("not_found")));
    server.post(&at("local/test"), &json!({ "config": { "path": "/etc" } })).expect(422);
    server.post(&at("local/test"), &json!({ "config": {} })).expect(422);
    server.post(&at("ftp/test"), &json!({})).expect(404);

    wait_for_run(&server, "local", "acme");
    let metrics = server.get("/prometheus").text().to_owned();
    for line in [
        "activekg_schedule_runs_total{job_id=\"local_poller\",kind=\"interval\"}",
        "connector_poller_errors_total{error_type=\"list_changes\",provider=\"local\",tenant=\"acme\"} 0",
        "connector_poller_latency_seconds_count{provider=\"local\",tenant=\"acme\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let expected = ["a.md", "b.md"].map(|name| format!("file://{base}/{name}"));
    assert_eq!(polled(&mut server), expected);
}

#[test]
fn another_tenants_connector_is_not_tried_out() {
    let server = Options::new(&JWT_ENV).set("RUN_SCHEDULER", "false").start();
    let body = json!({ "tenant_id": "harbor" });
    let ask = |scopes: &[&str]| {
        let request = Request::post(at("s3/test"), &body);
        server.send(&request.bearer(&token("acme", scopes)))
    };
    ask(&["admin:refresh"]).expect(403);
    ask(&["kg:read"]).expect(403);
    ask(&["admin:refresh", "super_admin"]).expect(404);
}

/// A service that refuses everything, and says the caller's key in doing so.
pub(in crate::api::graph) fn refusing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 8192]);
            let body = "<Error>AKIACANARYCANARY</Error>";
            let answer = format!(
                "HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    addr
}

#[test]
fn a_trial_tells_the_kind_of_fault_and_no_secret() {
    let server = Server::start(&QUIET);
    let s3 = |endpoint: String| {
        json!({ "config": { "bucket": "docs", "endpoint": endpoint,
            "access_key_id": "AKIACANARYCANARY", "secret_access_key": super::CANARY } })
    };
    let refused = tried(&server, "s3", &s3(format!("http://{}", refusing())));
    assert_eq!(refused["error_type"], "access_denied");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = tried(&server, "s3", &s3(format!("http://{free}")));
    assert_eq!(nobody["error_type"], "network");
    for told in [refused.to_string(), nobody.to_string(), server.log()] {
        assert!(!told.contains("CANARY") && !told.contains("canary"), "{told}");
    }
}

/// Moto's server, which speaks as S3 does. Killed when dropped.
struct Moto {
    child: Child,
    addr: SocketAddr,
}

impl Moto {
    /// None where it is not installed: `pip install 'moto[server]'`.
    fn start() -> Option<Self> {
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new("moto_server");
        command.args(["-H", "127.0.0.1", "-p", &addr.port().to_string()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let mut moto = Self { child, addr };
        for _ in 0..600 {
            if TcpStream::connect(addr).is_ok() {
                return Some(moto);
            }
            // One that is on the path and does not run is not installed either.
            if moto.child.try_wait().unwrap().is_some() {
                return None;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("moto_server does not listen within a minute");
    }

    fn send(&self, method: &str, path: &str, body: &str) {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.addr,
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_bucket_of_a_real_server_is_listed_once() {
    const N: usize = 1100;
    let Some(moto) = Moto::start() else {
        println!("skipped: moto_server is not installed; pip install 'moto[server]'");
        return;
    };
    moto.send("PUT", "/docs", "");
    for n in 0..N {
        moto.send("PUT", &format!("/docs/in/{n:04}.txt"), "text");
    }
    let odd = ["a%20b", "%C3%BC", "x%25y", "p%2Bq", "a//b"];
    for key in odd {
        moto.send("PUT", &format!("/docs/in/{key}"), "odd");
    }
    moto.send("PUT", "/docs/out.txt", "out");
    let mut server = Server::start(&[]);
    let config = json!({
        "bucket": "docs", "prefix": "in/", "endpoint": format!("http://{}", moto.addr),
        "access_key_id": "AKIATESTAKIATEST", "secret_access_key": "s".repeat(40),
    });
    let success = tried(&server, "s3", &json!({ "config": config }));
    assert_eq!((&success["status"], &success["objects_found"]), (&json!("success"), &json!(1)));
    let mut renamed = config.clone();
    renamed["bucket"] = "renamed".into();
    let renamed = tried(&server, "s3", &json!({ "config": renamed }));
    assert_eq!(renamed["error_type"], "not_found");
    register(&server, "s3", "acme", &config);
    wait_for_run(&server, "s3", "acme");
    let known = polled(&mut server);
    assert_eq!(known.len(), N + odd.len());
    for key in ["a b", "ü", "x%y", "p+q", "a//b", "0000.txt", "1099.txt"] {
        assert!(known.contains(&format!("s3://docs/in/{key}")), "{key}");
    }
}
