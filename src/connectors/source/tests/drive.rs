//! Drive, against a server that speaks the calls that are made of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

pub(in crate::connectors) const FOLDER: &str = "application/vnd.google-apps.folder";
const DOC: &str = "application/vnd.google-apps.document";

/// A Drive: files by id, the changes there were, and the keys of the account that are good.
#[derive(Default)]
pub(in crate::connectors) struct Fake {
    files: Mutex<BTreeMap<String, Value>>,
    changes: Mutex<Vec<Value>>,
    bad_keys: Mutex<Vec<String>>,
    tokens: AtomicUsize,
    /// Folders cannot be listed.
    pub(in crate::connectors) is_unlisted: AtomicBool,
}

impl Fake {
    pub(in crate::connectors) fn put(&self, id: &str, kind: &str, parent: &str) {
        let file = json!({"id": id, "name": format!("{id}.txt"), "mimeType": kind, "version": "1",
            "modifiedTime": "2026-10-21T07:28:00.000Z", "md5Checksum": format!("md5-{id}"),
            "size": "4", "parents": [parent], "trashed": false});
        self.files.lock().unwrap().insert(id.to_owned(), file.clone());
        self.changes.lock().unwrap().push(json!({"fileId": id, "file": file}));
    }

    fn answer(&self, asked: &Asked) -> Response<Body> {
        if asked.path == "/token" {
            return self.token(asked);
        }
        let bearer = asked.header("authorization").strip_prefix("Bearer ").unwrap_or_default();
        let key = bearer.split('.').next().unwrap_or_default().to_owned();
        if key.is_empty() || self.bad_keys.lock().unwrap().contains(&key) {
            return reply(401, &[], "{}");
        }
        let path = asked.path.strip_prefix("/drive/v3/").expect("the interface");
        let files = self.files.lock().unwrap();
        let json = |value: Value| reply(200, &[], value.to_string());
        match path.split('/').collect::<Vec<_>>().as_slice() {
            ["files"] if self.is_unlisted.load(Ordering::SeqCst) => reply(500, &[], "{}"),
            ["files"] => {
                assert_eq!(asked.query("supportsAllDrives"), "true");
                let query = asked.query("q");
                let parent = query.strip_prefix('\'').and_then(|rest| rest.split('\'').next());
                let inside = files.values().filter(|file| match parent {
                    Some(parent) => file["parents"] == json!([parent]),
                    None => file["mimeType"] != FOLDER,
                });
                let from: usize = asked.query("pageToken").parse().unwrap_or(0);
                let limit: usize = asked.query("pageSize").parse().unwrap();
                let all: Vec<&Value> = inside.collect();
                let mut page =
                    json!({"files": all.iter().skip(from).take(limit).collect::<Vec<_>>()});
                if from + limit < all.len() {
                    page["nextPageToken"] = (from + limit).to_string().into();
                }
                json(page)
            }
            ["files", id] => match files.get(*id) {
                None => reply(404, &[], "{}"),
                Some(_) if asked.query("alt") == "media" => reply(200, &[], "text"),
                Some(file) => json(file.clone()),
            },
            ["files", id, "export"] => match files.get(*id) {
                None => reply(404, &[], "{}"),
                Some(_) => reply(200, &[], format!("as {}", asked.query("mimeType"))),
            },
            ["changes", "startPageToken"] => {
                json(json!({"startPageToken": self.changes.lock().unwrap().len().to_string()}))
            }
            ["changes"] => {
                let changes = self.changes.lock().unwrap();
                let from: usize = asked.query("pageToken").parse().expect("a token");
                let page: Vec<&Value> = changes.iter().skip(from).take(2).collect();
                let next = from + page.len();
                let name = if next < changes.len() { "nextPageToken" } else { "newStartPageToken" };
                json(json!({"changes": page, name: next.to_string()}))
            }
            _ => reply(404, &[], "{}"),
        }
    }

    /// Gives a token that begins with the id of the key that asked.
    fn token(&self, asked: &Asked) -> Response<Body> {
        self.tokens.fetch_add(1, Ordering::SeqCst);
        assert_eq!(asked.method, Method::POST);
        let assertion = asked.body.rsplit("assertion=").next().expect("an assertion");
        let key = jsonwebtoken::DecodingKey::from_rsa_pem(include_bytes!(
            "../../../auth/tests/rsa_public.pem"
        ));
        let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
        rules.validate_aud = false;
        let claims =
            jsonwebtoken::decode::<Value>(assertion, &key.unwrap(), &rules).expect("signed");
        assert_eq!(claims.claims["scope"], "https://www.googleapis.com/auth/drive.readonly");
        assert_eq!(claims.claims["sub"], "boss@example.com");
        let token =
            format!("{}.{}", claims.header.kid.unwrap(), self.tokens.load(Ordering::SeqCst));
        reply(200, &[], json!({"access_token": token, "expires_in": 3600}).to_string())
    }
}

pub(in crate::connectors) async fn fake() -> (Arc<Fake>, SocketAddr) {
    let fake = Arc::new(Fake::default());
    let served = fake.clone();
    let addr = serve(move |asked| served.answer(asked)).await;
    (fake, addr)
}

fn parts(addr: SocketAddr) -> Parts {
    Parts { drive_api: format!("http://{addr}/").parse().ok(), ..Parts::of_test() }
}

pub(in crate::connectors) fn source_parts(addr: SocketAddr) -> SourceParts {
    SourceParts(Arc::new(parts(addr)))
}

/// The settings of a connector to a Drive, and those of `change`.
pub(in crate::connectors) fn settings(addr: SocketAddr, change: &Value) -> Value {
    let mut settings = json!({"credentials": service_account(addr, "k1"), "page_size": 2,
        "subject_email": "boss@example.com"});
    for (name, value) in change.as_object().unwrap() {
        settings[name] = value.clone();
    }
    settings
}

fn source(addr: SocketAddr, change: Value) -> Source {
    open(Provider::Drive, settings(addr, &change), parts(addr))
}

fn uris(found: &[Found]) -> Vec<&str> {
    let mut uris: Vec<&str> = found.iter().map(|found| found.uri.as_str()).collect();
    uris.sort_unstable();
    uris
}

#[tokio::test]
async fn folders_are_gone_down_and_files_exported() {
    let (fake, addr) = fake().await;
    for (id, kind, parent) in [
        ("top", FOLDER, "drive"),
        ("in", FOLDER, "top"),
        ("out", FOLDER, "top"),
        ("deep", FOLDER, "in"),
        ("a", "text/plain", "top"),
        ("b", "text/plain", "in"),
        ("c", DOC, "deep"),
        ("d", "text/plain", "deep"),
        ("e", "text/plain", "out"),
        ("f", "text/plain", "elsewhere"),
        ("form", "application/vnd.google-apps.form", "in"),
    ] {
        fake.put(id, kind, parent);
    }
    let (found, unusable) = all(&source(addr, json!({"folder_id": "top"})), 1000).await;
    assert_eq!(uris(&found), ["drive://a", "drive://b", "drive://c", "drive://d", "drive://e"]);
    assert_eq!(unusable.len(), 1);
    let narrow =
        json!({"root_folders": ["top"], "include_folders": ["in"], "exclude_folders": ["deep"]});
    let narrow = source(addr, narrow);
    assert_eq!(uris(&all(&narrow, 1).await.0), ["drive://b"]);
    for (id, taken) in [("a", false), ("b", true), ("d", false), ("f", false), ("none", false)] {
        assert_eq!(narrow.stat(&format!("drive://{id}")).await.unwrap().is_some(), taken, "{id}");
    }
    let everything = source(addr, json!({"exclude_folders": ["top"]}));
    assert_eq!(uris(&all(&everything, 9).await.0), ["drive://f"]);

    let doc = narrow_to(addr).stat("drive://c").await.unwrap().expect("it is there");
    assert_eq!(doc.content_type.as_deref(), Some("text/html"));
    assert_eq!(narrow_to(addr).fetch(&doc, 99).await.unwrap(), "as text/html");
    let plain = narrow_to(addr).stat("drive://d").await.unwrap().expect("it is there");
    assert_eq!((plain.etag.as_deref(), plain.size), (Some("md5-d"), Some(4)));
    assert_eq!(narrow_to(addr).fetch(&plain, 99).await.unwrap(), "text");
    for bad in ["../x", "in' or name != 'x"] {
        let settings = json!({"credentials": "c", "folder_id": bad});
        let Value::Object(settings) = settings else { panic!("an object") };
        let parts = SourceParts(Arc::new(parts(addr)));
        let opened = Source::open(Provider::Drive, &Connector::unsaved(settings), &parts);
        assert_eq!(opened.err().unwrap().class, FaultClass::Settings, "{bad}");
    }
}

fn narrow_to(addr: SocketAddr) -> Source {
    source(addr, json!({"folder_id": "deep"}))
}

#[tokio::test]
async fn a_feed_tells_what_happens_after_its_cursor() {
    let (fake, addr) = fake().await;
    fake.put("top", FOLDER, "drive");
    fake.put("a", "text/plain", "top");
    let source = source(addr, json!({"folder_id": "top"}));
    assert_eq!(source.feeds(), [""]);
    let start = source.feed_from_now("").await.unwrap();
    assert_eq!(start, r#"{"page_token":"2","start_page_token":"2"}"#);
    fake.put("b", "text/plain", "top");
    fake.put("c", "text/plain", "elsewhere");
    fake.changes.lock().unwrap().push(json!({"fileId": "a", "removed": true}));
    let first = source.feed("", &start).await.unwrap();
    assert_eq!(
        (uris(&first.found), first.gone.as_slice(), first.more),
        (vec!["drive://b"], &["drive://c".to_owned()][..], true)
    );
    let second = source.feed("", &first.cursor).await.unwrap();
    assert_eq!(
        (second.gone.as_slice(), second.more, second.moved),
        (&["drive://a".to_owned()][..], false, false)
    );
    fake.put("top", FOLDER, "drive");
    assert!(source.feed("", &second.cursor).await.unwrap().moved);
    let bin = json!({"fileId": "in", "file": {"id": "in", "name": "in", "mimeType": FOLDER,
        "parents": ["top"], "trashed": true}});
    let before = fake.changes.lock().unwrap().len().to_string();
    fake.changes.lock().unwrap().push(bin);
    let news = source.feed("", &json!({"page_token": before}).to_string()).await.unwrap();
    assert!(news.moved, "what is in it is gone with it");
    assert!(source.feed("", "?").await.is_err());
    let shared = json!({"shared_drives": ["d1", "d2"]});
    assert_eq!(super::drive::source(addr, shared).feeds(), ["", "d1", "d2"]);
    let without = json!({"use_changes_feed": false});
    assert!(super::drive::source(addr, without).feeds().is_empty());
}

#[tokio::test]
async fn the_root_has_two_names() {
    let (fake, addr) = fake().await;
    fake.put("0AroOt", FOLDER, "");
    let root = fake.files.lock().unwrap()["0AroOt"].clone();
    fake.files.lock().unwrap().insert("root".to_owned(), root);
    fake.put("in", FOLDER, "0AroOt");
    fake.put("a", "text/plain", "in");
    fake.put("b", "text/plain", "elsewhere");
    let named = source(addr, json!({"root_folders": ["root"]}));
    assert!(named.stat("drive://a").await.unwrap().is_some());
    assert!(named.stat("drive://b").await.unwrap().is_none());
    let without = source(addr, json!({"exclude_folders": ["root"]}));
    assert!(without.stat("drive://a").await.unwrap().is_none());
}

#[tokio::test]
async fn a_token_is_kept_and_a_key_that_was_replaced_is_read_again() {
    let (fake, addr) = fake().await;
    fake.put("a", "text/plain", "top");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.json");
    std::fs::write(&path, service_account(addr, "k1")).unwrap();
    let source = source(addr, json!({"credentials": null, "credentials_path": path}));
    for _ in 0..3 {
        assert!(source.stat("drive://a").await.unwrap().is_some());
    }
    assert_eq!(fake.tokens.load(Ordering::SeqCst), 1);
    std::fs::write(&path, service_account(addr, "the-second-key")).unwrap();
    fake.bad_keys.lock().unwrap().push("k1".to_owned());
    assert!(source.stat("drive://a").await.unwrap().is_some());
    assert_eq!(fake.tokens.load(Ordering::SeqCst), 2);
    fake.bad_keys.lock().unwrap().push("the-second-key".to_owned());
    let refused = source.stat("drive://a").await.unwrap_err();
    assert_eq!(refused.class, FaultClass::AccessDenied);
    std::fs::remove_file(&path).unwrap();
    let gone = source.stat("drive://a").await.unwrap_err();
    assert!(gone.class == FaultClass::Settings && !gone.message.contains("key.json"), "{gone}");
}

#[tokio::test]
async fn refusals_mean_what_their_reasons_say() {
    for (reason, class) in [
        ("userRateLimitExceeded", FaultClass::RateLimited),
        ("insufficientFilePermissions", FaultClass::AccessDenied),
    ] {
        let addr = serve(move |asked| match asked.path.as_str() {
            "/token" => reply(200, &[], r#"{"access_token":"t"}"#),
            _ => reply(403, &[], json!({"error": {"errors": [{"reason": reason}]}}).to_string()),
        });
        let fault = source(addr.await, json!({})).list(None, None, 1).await.unwrap_err();
        assert_eq!(fault.class, class);
    }
    let addr = serve(|_| reply(400, &[], r#"{"error":"invalid_grant"}"#)).await;
    let fault = source(addr, json!({})).list(None, None, 1).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::AccessDenied);
    // A key of a tenant's names another host for its tokens.
    let elsewhere = service_account("10.0.0.9:80".parse().unwrap(), "k1");
    let fault = source(addr, json!({"credentials": elsewhere})).list(None, None, 1).await;
    assert_eq!(fault.unwrap_err().class, FaultClass::Settings);
}
