use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::connectors::Connector;
use crate::connectors::source::Unusable;

fn local(base: &Path, settings: Value) -> Result<Local, Fault> {
    let Value::Object(settings) = settings else { panic!("an object") };
    let connector = Connector::unsaved(settings);
    let settings = Settings { connector: &connector, globs: Globs::of(connector.shown()).unwrap() };
    Local::open(&settings, &SourceParts::of_folders(vec![base.to_owned()]))
}

async fn listed(local: &Local, prefix: Option<&str>, limit: usize) -> (Vec<String>, Vec<Unusable>) {
    let (mut names, mut unusable, mut cursor) = (Vec::new(), Vec::new(), None::<String>);
    loop {
        let page = local.list(prefix, cursor.as_deref(), limit).await.unwrap();
        assert!(page.found.len() <= limit);
        names.extend(page.found.into_iter().map(|found| found.uri));
        unusable.extend(page.unusable);
        cursor = page.next;
        if cursor.is_none() {
            return (names, unusable);
        }
    }
}

fn tree(base: &Path) {
    for file in
        ["docs/b/2.txt", "docs/b/1.md", "docs/a.txt", "docs/b.txt", "docs/c d/ü.txt", "other.txt"]
    {
        let path = base.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
}

#[tokio::test]
async fn pages_of_any_size_hold_every_file_once() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let docs = dir.path().join("docs");
    let local = local(dir.path(), json!({"path": docs})).unwrap();
    let expected: Vec<String> = ["a.txt", "b/1.md", "b/2.txt", "b.txt", "c d/ü.txt"]
        .iter()
        .map(|name| format!("file://{}/{name}", docs.display()))
        .collect();
    for limit in 1..7 {
        assert_eq!(listed(&local, None, limit).await, (expected.clone(), vec![]), "{limit}");
    }
    let slashed = self::local(dir.path(), json!({"path": docs.join("")})).unwrap();
    assert_eq!(listed(&slashed, None, 2).await.0, expected, "a slash at the end of the path");
    assert_eq!(listed(&local, Some("b"), 1).await.0, expected[1..4]);
    assert_eq!(listed(&local, Some("b/"), 9).await.0, expected[1..3]);
    for bad in ["../x", "/etc"] {
        assert!(local.list(None, Some(bad), 9).await.is_err());
    }
}

#[tokio::test]
async fn a_file_is_found_read_and_told_from_its_next_version() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let local = local(dir.path(), json!({"path": dir.path(), "exclude_globs": ["*.md"]})).unwrap();
    let uri = |name: &str| format!("file://{}/{name}", dir.path().display());
    let found = local.stat(&uri("docs/a.txt")).await.unwrap().unwrap();
    assert_eq!((found.title.as_str(), found.size), ("a.txt", Some(10)));
    assert_eq!(local.fetch(&found.uri, 10).await.unwrap(), "docs/a.txt");
    let large = local.fetch(&found.uri, 9).await.unwrap_err();
    assert_eq!(large.class, FaultClass::TooLarge);
    fs::write(dir.path().join("docs/a.txt"), "longer than before").unwrap();
    assert_ne!(local.stat(&found.uri).await.unwrap().unwrap().etag, found.etag);
    for gone in ["docs/none.txt", "docs/b/1.md", "docs/b", "docs/a.txt/x"] {
        assert_eq!(local.stat(&uri(gone)).await, Ok(None), "{gone}");
    }
    for foreign in ["s3://b/k", "file:///etc/passwd", &uri("../x"), "docs/a.txt"] {
        let fault = local.stat(foreign).await.unwrap_err();
        assert_eq!(fault.class, FaultClass::Unsupported, "{foreign}");
        assert!(local.fetch(foreign, 9).await.is_err(), "{foreign}");
    }
}

#[tokio::test]
async fn links_lead_nowhere_unless_they_may_and_then_not_out() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.txt"), "secret").unwrap();
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    symlink(outside.path(), dir.path().join("out")).unwrap();
    symlink("/etc/passwd", dir.path().join("passwd")).unwrap();
    symlink("docs/a.txt", dir.path().join("near.txt")).unwrap();
    symlink("..", dir.path().join("docs/up")).unwrap();
    let uri = |name: &str| format!("file://{}/{name}", dir.path().display());

    let strict = local(dir.path(), json!({"path": dir.path()})).unwrap();
    let (names, unusable) = listed(&strict, None, 100).await;
    assert_eq!(names.len(), 6);
    let mut links: Vec<&str> = unusable.iter().map(|link| link.name.as_str()).collect();
    links.sort_unstable();
    assert_eq!(links, ["docs/up", "near.txt", "out", "passwd"]);
    for link in ["out/secret.txt", "passwd", "near.txt", "docs/up/other.txt"] {
        assert_eq!(strict.stat(&uri(link)).await, Ok(None), "{link}");
        assert!(strict.fetch(&uri(link), 99).await.is_err(), "{link}");
    }
    if !beneath::CAN_FOLLOW {
        return;
    }
    let follow = json!({"path": dir.path(), "follow_symlinks": true});
    let follow = local(dir.path(), follow).unwrap();
    let (names, _) = listed(&follow, None, 2).await;
    assert!(names.contains(&uri("near.txt")) && !names.iter().any(|name| name.contains("out/")));
    assert_eq!(names.len(), 7, "{names:?}");
    assert_eq!(follow.fetch(&uri("near.txt"), 99).await.unwrap(), "docs/a.txt");
    for out in ["out/secret.txt", "passwd"] {
        assert!(follow.fetch(&uri(out), 99).await.is_err(), "{out}");
    }
}

#[tokio::test]
async fn what_cannot_be_taken_is_told() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(OsStr::from_bytes(b"a\xff.txt")), "x").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("sock")).unwrap();
    let all = local(dir.path(), json!({"path": dir.path()})).unwrap();
    let (names, unusable) = listed(&all, None, 10).await;
    assert_eq!((names.len(), unusable.len()), (0, 2));
    let gone = local(dir.path(), json!({"path": dir.path().join("none")})).unwrap();
    assert_eq!(gone.list(None, None, 1).await.unwrap_err().class, FaultClass::NotFound);
}

#[test]
fn a_folder_is_below_one_that_is_allowed() {
    let base = Path::new("/srv/docs");
    for bad in ["/srv", "/srv/docs/../x", "/srv/docsmore", "docs"] {
        let fault = local(base, json!({"path": bad})).err().expect(bad);
        assert_eq!(fault.class, FaultClass::Settings);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Paging by any size gives what one walk gives, in order and once.
    #[test]
    fn paging_is_one_walk(files in prop::collection::btree_set("[ab.]{1,2}(/[ab.]{1,2}){0,2}x", 0..12), limit in 1usize..5) {
        let dir = tempfile::tempdir().unwrap();
        let mut n_files = 0;
        for file in &files {
            let path = dir.path().join(file);
            if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.exists() {
                n_files += usize::from(fs::write(path, "x").is_ok());
            }
        }
        let local = local(dir.path(), json!({"path": dir.path()})).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let whole = runtime.block_on(listed(&local, None, 100)).0;
        prop_assert_eq!(&runtime.block_on(listed(&local, None, limit)).0, &whole);
        prop_assert!(whole.len() <= n_files);
    }
}
