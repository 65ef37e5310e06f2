//! Starting: what is refused is refused in one line, with the right exit code, and nothing is
//! touched. And what is rebuilt when it was lost.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use serde_json::json;

use crate::common::{Options, Request, Server, of_checkout};

/// Exit codes, as `activekg --help` lists them.
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const DATA_DIRECTORY: i32 = 3;

/// Runs `activekg serve`, which must end by itself, and returns the one line it says.
#[track_caller]
fn refused(options: &Options, dir: &Path, code: i32) -> String {
    let output = options.command(dir, &["serve"]).output().expect("run the program");
    one_line(&output, code)
}

#[track_caller]
fn one_line(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("activekg: "), "{said}");
    said
}

/// All files below a folder and their contents.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    files
}

#[test]
fn a_directory_held_by_another_process_is_left_to_it() {
    let server = Server::start(&[]);
    let id = server.create(&json!({ "classes": ["Doc"], "props": { "text": "held" } }));
    let said = refused(&Options::new(&[]), server.dir(), DATA_DIRECTORY);
    assert!(said.contains(&*server.dir().to_string_lossy()), "{said}");
    assert!(said.contains(&server.pid().to_string()), "the line names who holds it: {said}");
    assert_eq!(server.get(&format!("/nodes/{id}")).status, 200);
    server.create(&json!({ "classes": ["Doc"], "props": { "text": "still held" } }));
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a file");
    fs::write(&file, "not a folder").unwrap();
    // In these places nobody can make a folder, root included.
    for place in
        [file.clone(), file.join("below"), "/proc/activekg".into(), "/dev/null/activekg".into()]
    {
        let said = refused(&Options::new(&[]), &place, DATA_DIRECTORY);
        assert!(said.contains(&*place.to_string_lossy()), "{said}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "not a folder");
    assert_eq!(contents(dir.path()).len(), 1);
}

#[test]
fn a_log_file_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new(&[("ACTIVEKG_LOG_FILE", "/proc/none/app.log")]);
    let said = refused(&options, &dir.path().join("data"), USAGE);
    assert!(said.contains("ACTIVEKG_LOG_FILE: cannot append to /proc/none/app.log"), "{said}");
    assert!(!dir.path().join("data").exists(), "nothing is touched");
}

#[test]
fn a_store_of_a_newer_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let newer = of_checkout("tests/data/startup/format-9999.redb");
    fs::copy(newer, dir.path().join("store.redb")).unwrap();
    let before = contents(dir.path());
    let said = refused(&Options::new(&[]), dir.path(), DATA_DIRECTORY);
    assert!(said.contains("9999"), "{said}");
    assert!(contents(dir.path()) == before, "starting changed the directory");
}

#[test]
fn a_damaged_store_is_kept_as_it_is() {
    for bytes in [&b""[..], b"not a store", &[0; 1 << 20]] {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store.redb");
        fs::write(&store, bytes).unwrap();
        let said = refused(&Options::new(&[]), dir.path(), DATA_DIRECTORY);
        assert!(said.contains("store.redb"), "{said}");
        assert!(fs::read(&store).unwrap() == bytes, "starting changed the store");
    }
}

#[test]
fn an_address_others_can_reach_needs_tokens() {
    let dir = tempfile::tempdir().unwrap();
    for address in ["0.0.0.0:0", "[::]:0"] {
        let options = Options::new(&[]).set("ACTIVEKG_BIND", address);
        let output = options.command(dir.path(), &["serve"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(USAGE), "{said}");
        let fixes =
            |line: &str| line.contains("JWT_ENABLED=true") && line.contains("activekg serve");
        assert!(said.lines().any(fixes) && said.contains("ACTIVEKG_DANGER_OPEN"), "{said}");
    }
    assert!(contents(dir.path()).is_empty(), "nothing was made");
    for open in [
        [
            ("JWT_ENABLED", "true"),
            ("JWT_ALGORITHM", "HS256"),
            ("JWT_SECRET_KEY", "0123456789abcdef0123456789abcdef"),
        ]
        .as_slice(),
        &[("ACTIVEKG_DANGER_OPEN", "true")],
    ] {
        let server = Options::new(open).set("ACTIVEKG_BIND", "0.0.0.0:0").start();
        let local = (std::net::Ipv4Addr::LOCALHOST, server.addr().port()).into();
        assert_eq!(Request::get("/health").send_to(local).unwrap().status, 200);
    }
}

#[test]
fn a_bad_setting_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("JWT_ENABLED", "maybe"),
        ("EMBEDDING_ASYNC", "2"),
        ("RUN_EMBEDDING_WORKER", "nope"),
        ("MAX_REQUEST_SIZE_BYTES", "many"),
        ("ACTIVEKG_BIND", "here"),
        ("SEARCH_DISTANCE", "far"),
        ("EMBEDDING_PRECISION", "f8"),
        ("ACTIVEKG_MIN_FREE_BYTES", "-1"),
        ("AUTHZ_MODE", "all"),
        ("EMBEDDING_QUEUE_MAX_DEPTH", "1e9"),
    ] {
        let said = refused(&Options::new(&[(name, value)]), dir.path(), USAGE);
        assert!(said.contains(name), "{said}");
    }
    assert!(contents(dir.path()).is_empty(), "nothing was made");
    // The last setting of a kind is the flag, and blank is unset.
    let server = Server::start(&[("EMBEDDING_ASYNC", " "), ("JWT_ENABLED", "OFF")]);
    assert_eq!(server.get("/nodes").status, 200);
}

#[test]
fn a_weak_secret_is_refused_and_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new(&[
        ("JWT_ENABLED", "true"),
        ("JWT_ALGORITHM", "HS256"),
        ("JWT_SECRET_KEY", "hunter2"),
    ]);
    let said = refused(&options, dir.path(), USAGE);
    assert!(said.contains("JWT_SECRET_KEY") && said.contains("32"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn an_address_in_use_touches_no_data() {
    let server = Server::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let taken = Options::new(&[]).set("ACTIVEKG_BIND", &server.addr().to_string());
    let said = refused(&taken, dir.path(), FAILED);
    assert!(said.contains(&server.addr().to_string()) && said.contains("ACTIVEKG_BIND"), "{said}");
    assert!(contents(dir.path()).is_empty(), "nothing was made");
}

#[test]
fn asked_to_end_it_ends_well() {
    let mut server = Server::start(&[("EMBEDDING_ASYNC", "true")]);
    let ids: Vec<String> = (0..50)
        .map(|n| {
            server.create(
                &json!({ "classes": ["Doc"], "props": { "text": format!("going down {n}") } }),
            )
        })
        .collect();
    assert_eq!(server.terminate().code(), Some(0));
    server.start_again(&[]);
    for id in ids {
        assert_eq!(server.get(&format!("/nodes/{id}")).status, 200);
    }
}

#[test]
fn indexes_that_are_gone_or_damaged_are_built_again() {
    let mut server = Server::start(&[]);
    let ids: Vec<String> = (0..30)
        .map(|n| server.create(&json!({ "classes": ["Doc"], "props": { "text": format!("indexed entry{n}q about pumps") } })))
        .collect();
    let gone =
        server.create(&json!({ "classes": ["Doc"], "props": { "text": "removed entry99q" } }));
    server.delete(&format!("/nodes/{gone}?hard=true")).expect(200);
    let index = server.dir().join("index");
    assert!(index.is_dir());

    let cut = |path: &Path| {
        for file in contents(path).keys() {
            let length = fs::metadata(file).unwrap().len();
            fs::OpenOptions::new().write(true).open(file).unwrap().set_len(length / 2).unwrap();
        }
    };
    let scribble = |path: &Path| {
        for (file, mut bytes) in contents(path) {
            bytes.iter_mut().step_by(7).for_each(|byte| *byte ^= 0xA5);
            fs::write(file, bytes).unwrap();
        }
    };
    type Damage<'a> = (&'a str, &'a dyn Fn(&Path));
    let damages: [Damage<'_>; 3] = [
        ("removed", &|path| fs::remove_dir_all(path).unwrap()),
        ("cut", &cut),
        ("scribbled over", &scribble),
    ];
    for (how, damage) in damages {
        server.kill();
        damage(&index);
        server.start_again(&[]);
        for (n, id) in ids.iter().enumerate().step_by(7) {
            let by_words = json!({ "query": format!("entry{n}q"), "mode": "bm25" });
            let found = server
                .until(&Request::post("/search", &by_words), |answer| answer.json()["count"] == 1);
            assert_eq!(found.json()["results"][0]["id"], id.as_str(), "{how}");
        }
        let by_meaning = Request::post("/search", &json!({ "query": "pumps", "top_k": 100 }));
        server.until(&by_meaning, |answer| answer.json()["count"] == ids.len());
        let removed = server.post("/search", &json!({ "query": "entry99q", "mode": "bm25" }));
        assert_eq!(removed.expect(200)["count"], 0, "{how}");
    }
}

/// Two keys, and what they make of nothing sealed yet.
const FIRST_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECOND_KEY: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

#[test]
fn a_key_that_is_none_is_refused_and_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let failed = "activekg: Failed to load connector encryption keys: ";
    for (settings, why) in [
        (vec![("CONNECTOR_KEK_V2", "hunter2")], "Invalid CONNECTOR_KEK_V2: "),
        (vec![("CONNECTOR_KEK_V14", "hunter2")], "Invalid CONNECTOR_KEK_V14: "),
        (vec![("CONNECTOR_KEK", "hunter2")], "Invalid CONNECTOR_KEK: "),
        (vec![("CONNECTOR_KEK_V1_FILE", "/nowhere")], "Invalid CONNECTOR_KEK_V1_FILE: "),
        (
            vec![("CONNECTOR_KEK_V1", FIRST_KEY), ("CONNECTOR_KEK_ACTIVE_VERSION", "new")],
            "CONNECTOR_KEK_ACTIVE_VERSION must be an integer, got: new",
        ),
        (
            vec![
                ("CONNECTOR_KEK_V1", FIRST_KEY),
                ("CONNECTOR_KEK_V12", SECOND_KEY),
                ("CONNECTOR_KEK_ACTIVE_VERSION", "2"),
            ],
            "Active KEK version 2 not found. Available versions: [1, 12]",
        ),
    ] {
        let said = refused(&Options::new(&settings), dir.path(), USAGE);
        assert!(said.starts_with(&format!("{failed}{why}")), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    assert!(contents(dir.path()).is_empty(), "nothing was made");
}

#[test]
fn a_key_is_made_where_none_is_set() {
    let mut server = Server::start(&[]);
    let file = server.dir().join("kek.key");
    let made = fs::read_to_string(&file).unwrap();
    assert_eq!(made.trim_end().len(), 44);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    server.logged("no CONNECTOR_KEK_V1 is set; made ");
    server.kill();
    server.start_again(&[]);
    assert_eq!(fs::read_to_string(&file).unwrap(), made);
    let validated = "KEK validation passed (active version: 1, versions: 1)";
    assert!(!server.logged(validated).contains("made "));
    // Keys that are set seal, the file's still opens.
    server.kill();
    server
        .start_again(&[("CONNECTOR_KEK_V12", SECOND_KEY), ("CONNECTOR_KEK_ACTIVE_VERSION", "12")]);
    let validated = "KEK validation passed (active version: 12, versions: 2)";
    server.logged(validated);
    assert!(!server.log().contains(made.trim_end()));
    server.kill();
    fs::write(&file, "no key").unwrap();
    let said = refused(&Options::new(&[]), server.dir(), USAGE);
    assert!(said.contains("Invalid ") && said.contains("kek.key: "), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "no key");
}

#[test]
fn no_key_is_made_where_one_is_set() {
    let server = Server::start(&[("CONNECTOR_KEK", FIRST_KEY)]);
    assert!(!server.dir().join("kek.key").exists());
    let validated = "KEK validation passed (active version: 1, versions: 1)";
    assert!(!server.logged(validated).contains(FIRST_KEY));
}

#[test]
fn keys_are_made_and_counted_with_and_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let none = Options::new(&[]);
    let run = |options: &Options, arguments: &[&str]| {
        let output = options.command(dir.path(), arguments).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        said
    };
    let [one, other] = [(); 2].map(|()| run(&none, &["keys", "generate"]));
    assert!(one.len() == 45 && one.ends_with('\n') && one != other);
    let output = none.command(dir.path(), &["keys", "status"]).output().unwrap();
    assert!(one_line(&output, FAILED).contains("there is no data in "));
    assert!(contents(dir.path()).is_empty(), "nothing was made");

    let server = Options::new(&[("CONNECTOR_KEK_V1", one.trim_end())]).dir(dir.path()).start();
    let asked = run(&none, &["keys", "status"]);
    assert!(asked.starts_with("Active version: 1\nAvailable versions: [1]\n"), "{asked}");
    drop(server);
    assert!(run(&none, &["keys", "status"]).starts_with("Active version: none\n"));
    assert!(!dir.path().join("kek.key").exists(), "looking makes nothing");
    let options = Options::new(&[
        ("CONNECTOR_KEK_V1", one.trim_end()),
        ("CONNECTOR_KEK_V2", other.trim_end()),
        ("CONNECTOR_KEK_ACTIVE_VERSION", "2"),
    ]);
    let expected =
        "Active version: 2\nAvailable versions: [1, 2]\npending=0 total=0\nDistribution: {}\n";
    assert_eq!(run(&options, &["keys", "status"]), expected);
}
