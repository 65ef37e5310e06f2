//! `activekg models`: models kept beside the data, and served from there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use crate::common::{Options, Server, of_checkout};

/// The model that is compiled in, as a folder.
fn folder() -> PathBuf {
    of_checkout("assets/models/all-MiniLM-L6-v2")
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    let words: Vec<&str> = ["models"].iter().chain(arguments).copied().collect();
    Options::new(&[]).command(dir, &words).output().unwrap()
}

/// What a command printed that must succeed.
#[track_caller]
fn printed(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that must fail says of it.
#[track_caller]
fn refused(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    errors
}

fn names(dir: &Path) -> Vec<String> {
    let listed: Value = serde_json::from_str(&printed(dir, &["list", "--json"])).unwrap();
    let models = listed["models"].as_array().expect("a list");
    models.iter().map(|model| model["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_model_is_added_served_verified_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(names(dir.path()), ["all-MiniLM-L6-v2"]);
    let source = folder();
    let source = source.to_str().unwrap();
    let path = printed(dir.path(), &["add", source, "--name", "mini"]);
    assert!(Path::new(path.trim()).join("model.safetensors").exists(), "{path}");
    assert_eq!(names(dir.path()), ["all-MiniLM-L6-v2", "mini"]);
    assert!(refused(dir.path(), &["add", source, "--name", "mini"]).contains("already"));
    assert!(refused(dir.path(), &["add", source]).contains("compiled in"));
    assert!(printed(dir.path(), &["verify"]).contains("mini: as it was added, and it works"));

    let mut server = Options::new(&[("EMBEDDING_MODEL", "mini")]).dir(dir.path()).start();
    server
        .create(&json!({ "classes": ["Doc"], "props": { "text": "The seal is checked weekly." } }));
    let query = json!({ "query": "how often is the seal checked" });
    let found = server.post("/search", &query).expect(200);
    assert_eq!(found["count"], 1, "{found}");
    assert_eq!(server.get("/debug/embed_info").expect(200)["embedding_model"], "mini");
    assert!(refused(dir.path(), &["remove", "mini", "--yes"]).contains("works with mini"));
    server.terminate();

    printed(dir.path(), &["remove", "mini", "--yes"]);
    assert_eq!(names(dir.path()), ["all-MiniLM-L6-v2"]);
    assert!(refused(dir.path(), &["remove", "mini", "--yes"]).contains("no model named mini"));
}

#[test]
fn what_cannot_be_used_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken");
    fs::create_dir(&broken).unwrap();
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(folder().join(file), broken.join(file)).unwrap();
    }
    let path = broken.to_str().unwrap();
    assert!(refused(dir.path(), &["add", path]).contains("lacks model.safetensors"));
    fs::write(broken.join("model.safetensors"), b"\x08\0\0\0\0\0\0\0{}").unwrap();
    assert!(refused(dir.path(), &["add", path]).contains("is not a model"));
    let file = dir.path().join("broken.gguf");
    fs::write(&file, b"GGUF\x03\0\0\0").unwrap();
    assert!(refused(dir.path(), &["add", file.to_str().unwrap()]).contains("is not a model"));
    assert_eq!(names(dir.path()), ["all-MiniLM-L6-v2"]);

    let source = folder();
    printed(dir.path(), &["add", source.to_str().unwrap(), "--name", "mini"]);
    let weights = dir.path().join("models/mini/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    bytes[1_000_000] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let output = run(dir.path(), &["verify", "mini"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "mini: model.safetensors: its SHA-256 is another\n");
}

#[test]
fn a_model_that_was_never_added_stops_the_start_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let output = Options::new(&[("EMBEDDING_MODEL", "nowhere")])
        .command(dir.path(), &["serve"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("no model named nowhere") && text.contains("models list"), "{text}");
}

#[test]
fn a_bench_gives_figures_of_each_length() {
    let dir = tempfile::tempdir().unwrap();
    let text = printed(dir.path(), &["bench", "--seconds", "1", "--json"]);
    let figures: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(figures["model"], "all-MiniLM-L6-v2");
    let lengths = figures["lengths"].as_array().expect("lengths");
    assert_eq!(lengths.len(), 3);
    for length in lengths {
        assert!(length["texts_per_second"].as_f64().expect("a rate") > 0.0, "{length}");
    }
}

#[test]
fn the_list_is_there_beside_a_running_server() {
    let server = Server::start(&[]);
    assert_eq!(names(server.dir()), ["all-MiniLM-L6-v2"]);
}
