//! Backups of a running server, and what is restored from them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use crate::common::token::{JWT_ENV, token};
use crate::common::{Options, Request, Server};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Runs a command on the data of `dir`.
fn run(dir: &Path, env: &[(&str, &str)], arguments: &[&str]) -> Output {
    Options::new(env).command(dir, arguments).output().unwrap()
}

/// The last line on stdout of a command that must succeed.
#[track_caller]
fn last_line(output: &Output) -> String {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out.lines().last().unwrap_or_default().to_owned()
}

/// What a command that must fail with `code` says.
#[track_caller]
fn fault(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stdout));
    text(&output.stderr)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn archives(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Everything a client sees of the nodes.
fn seen(server: &Server) -> Value {
    let nodes = server.get("/nodes?include=props&limit=1000").expect(200)["nodes"].clone();
    let events = server.get("/events?limit=1000").expect(200)["events"].clone();
    json!({ "nodes": nodes, "events": events })
}

fn doc(text: &str) -> Value {
    json!({ "classes": ["Doc"], "props": { "text": text } })
}

#[test]
fn what_was_backed_up_while_serving_is_served_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Options::new(&[]).dir(&data).start();
    let ids: Vec<String> =
        (0..20).map(|n| server.create(&doc(&format!("harbour number {n}")))).collect();
    let edge = json!({ "src": ids[1], "dst": ids[0], "rel": "DERIVED_FROM" });
    server.post("/edges", &edge).expect(200);
    let before = seen(&server);

    let created = run(&data, &[], &["backup", "create"]);
    let path = last_line(&created);
    assert!(text(&created.stderr).contains("needs no key"), "{}", text(&created.stderr));
    assert_eq!(archives(&data.join("backups")), [PathBuf::from(&path)]);
    server.create(&doc("written after the backup"));
    server.kill();

    let into = dir.path().join("again");
    let into_text = into.to_str().unwrap();
    let dry = run(&data, &[], &["backup", "restore", &path, "--into", into_text, "--dry-run"]);
    assert!(last_line(&dry).contains("nothing was changed"));
    assert!(!into.exists());
    let done = run(&data, &[], &["backup", "restore", &path, "--into", into_text]);
    assert!(last_line(&done).starts_with("restored into"));
    let again = Options::new(&[]).dir(&into).start();
    assert_eq!(seen(&again), before);
    let found = again.post("/search", &json!({ "query": "harbour number 7", "mode": "bm25" }));
    assert_eq!(found.expect(200)["results"][0]["id"], ids[7].as_str());
    let lineage = again.get(&format!("/lineage/{}", ids[1])).expect(200);
    assert!(lineage.to_string().contains(&ids[0]), "{lineage}");
}

#[test]
fn a_drill_says_how_old_the_data_is_and_how_long_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let nothing = run(&data, &[], &["backup", "create"]);
    assert!(fault(&nothing, 1).contains("there is no data in"));
    let server = Options::new(&[]).dir(&data).start();
    server.create(&doc("the lighthouse keeper"));
    drop(server);

    // Without a server.
    let none = run(&data, &[], &["backup", "drill"]);
    assert!(fault(&none, 1).contains("there is no archive"));
    let drill = run(&data, &[], &["backup", "drill", "--create", "--json"]);
    let told: Value = serde_json::from_str(&last_line(&drill)).unwrap();
    assert_eq!((&told["nodes_read"], &told["nodes_found"]), (&json!(1), &json!(1)));
    assert!(told["age_seconds"].as_f64().unwrap() < 600.0);
    let drill = run(&data, &[], &["backup", "drill"]);
    let out = text(&drill.stdout);
    last_line(&drill);
    for line in ["data from ", " old)", "restored in ", "1 nodes found by their words"] {
        assert!(out.contains(line), "{out}");
    }

    let archive = archives(&data.join("backups")).remove(0);
    let name = archive.file_name().unwrap().to_str().unwrap().to_owned();
    let day = format!("{}-{}-{}", &name[9..13], &name[13..15], &name[15..17]);
    for wanted in [archive.to_str().unwrap(), &name, &name[9..24], &day] {
        last_line(&run(&data, &[], &["backup", "verify", wanted]));
        last_line(&run(&data, &[], &["restore", "--dry-run", wanted]));
    }
    for list in [&["backup", "list"][..], &["restore", "--list"]] {
        assert!(last_line(&run(&data, &[], list)).contains(&name));
    }
    let unknown = run(&data, &[], &["restore", "--dry-run", "1999-12-31"]);
    assert!(fault(&unknown, 1).contains("there is no archive 1999-12-31"));
    fault(&run(&data, &[], &["restore"]), 2);

    // Damaged, it is of no use, and nothing comes of it.
    let mut bytes = fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&archive, bytes).unwrap();
    assert!(fault(&run(&data, &[], &["backup", "verify", &name]), 1).contains("damaged"));
    let into = dir.path().join("into");
    let arguments = ["backup", "restore", &name, "--into", into.to_str().unwrap()];
    assert!(fault(&run(&data, &[], &arguments), 1).contains("damaged"));
    assert!(!into.exists());
}

#[test]
fn data_that_is_there_is_moved_aside_and_never_under_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Options::new(&[]).dir(&data).start();
    server.create(&doc("before"));
    let before = seen(&server);
    let name = last_line(&run(&data, &[], &["backup", "create"]));
    server.create(&doc("after"));
    let after = seen(&server);

    // Nobody can type the word here.
    let asked = run(&data, &[], &["restore", &name]);
    assert!(fault(&asked, 1).contains("--force"));
    let held = run(&data, &[], &["restore", &name, "--force"]);
    assert!(fault(&held, 1).contains("in use by process"), "{held:?}");
    assert_eq!(server.terminate().code(), Some(0));
    let done = run(&data, &[], &["restore", &name, "--force"]);
    assert!(last_line(&done).starts_with("restored into"));

    server.start_again(&[]);
    assert_eq!(seen(&server), before);
    assert!(data.join("kek.key").exists() && Path::new(&name).exists());
    let aside: Vec<PathBuf> = archives(dir.path());
    let aside = aside.iter().find(|path| path.to_string_lossy().contains(".before-")).unwrap();
    assert_eq!(seen(&Options::new(&[]).dir(aside).start()), after);
}

#[test]
fn encrypted_archives_need_their_key() {
    let env = [("ACTIVEKG_BACKUP_KEY", KEY)];
    let server = Server::start(&env);
    server.create(&doc("sealed"));
    let to = tempfile::tempdir().unwrap();
    let to_text = to.path().to_str().unwrap();
    let created = run(server.dir(), &env, &["backup", "create", "--to", to_text]);
    let path = last_line(&created);
    assert!(path.starts_with(to_text) && path.ends_with(".tar.zst.enc"), "{path}");
    let refused = fault(&run(server.dir(), &[], &["backup", "verify", &path]), 1);
    assert!(refused.contains("ACTIVEKG_BACKUP_KEY"), "{refused}");
    last_line(&run(server.dir(), &env, &["backup", "verify", &path]));
}

#[test]
fn only_who_may_see_everything_backs_up_over_http() {
    let server = Server::start(&JWT_ENV);
    let request = |target: &str, scopes: &str| {
        Request::post(target, &json!({})).bearer(&token("acme", &[scopes]))
    };
    assert_eq!(server.post("/admin/backup", &json!({})).status, 401);
    assert_eq!(server.send(&request("/admin/backup", "admin:refresh")).status, 403);
    let created = server.send(&request("/admin/backup", "super_admin")).expect(200).clone();
    let name = created["name"].as_str().unwrap();
    assert!(Path::new(created["path"].as_str().unwrap()).exists());

    let elsewhere = Request::post("/admin/backup", &json!({ "to": "/tmp" }));
    let elsewhere = elsewhere.bearer(&token("acme", &["super_admin"]));
    assert_eq!(server.send(&elsewhere).status, 403);
    let socket = server.dir().join("admin.sock");
    let wrong = Request::post("/admin/backup", &json!({ "to": "not/whole" }));
    assert_eq!(wrong.send_over(&socket).unwrap().status, 400);

    let list = Request::get("/admin/backups").bearer(&token("acme", &["super_admin"]));
    let list = server.send(&list).expect(200).clone();
    assert_eq!(list["backups"][0]["name"], name);
    assert_eq!(list["backups"].as_array().unwrap().len(), 1);
    let verify = request(&format!("/admin/backups/{name}/verify"), "super_admin");
    assert_eq!(server.send(&verify).expect(200)["rows"], created["rows"]);
    for gone in ["activekg_19990101_000000.tar.zst", "..%2f..%2fetc%2fpasswd", "notes"] {
        let verify = request(&format!("/admin/backups/{gone}/verify"), "super_admin");
        assert_eq!(server.send(&verify).status, 404, "{gone}");
    }
}

/// An address that refuses whoever asks, as a bucket whose keys are wrong does.
fn refusing() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { return };
            let mut request = [0; 4096];
            // One read holds a request without a body, and one with a body does not matter.
            if connection.read(&mut request).is_err() {
                continue;
            }
            let body = "<Error><Code>SignatureDoesNotMatch</Code></Error>";
            let head = "HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length";
            let _ = write!(connection, "{head}: {}\r\n\r\n{body}", body.len());
        }
    });
    addr
}

#[test]
fn a_bucket_that_refuses_is_told_of_without_its_keys() {
    let addr = refusing();
    let endpoint = format!("http://{addr}");
    let server = Server::start(&[
        ("ACTIVEKG_BACKUP_DIR", "s3://vault/kg"),
        ("AWS_ENDPOINT_URL_S3", &endpoint),
        ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ("AWS_REGION", "eu-central-1"),
    ]);
    for answer in [server.post("/admin/backup", &json!({})), server.get("/admin/backups")] {
        assert_eq!(answer.status, 503);
        let text = answer.text();
        // There is a code where the answer may have a body.
        let place = format!("s3://vault/kg at {addr} refuses (status 403");
        assert!(text.contains(&place) && text.contains("check AWS_ACCESS_KEY_ID"), "{text}");
        assert!(!text.contains("AKIAEXAMPLE") && !text.contains("hunter2"), "{text}");
    }
}
