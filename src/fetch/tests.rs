//! Payloads over real HTTP, with names that the tests make up.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::names::Found;
use crate::upstream::testing::{End, Reply, Stub};

/// Names with fixed addresses: those of later look-ups follow those of earlier ones.
#[derive(Default)]
struct Names {
    known: HashMap<&'static str, Vec<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Names {
    fn with(mut self, name: &'static str, answers: &[&[&str]]) -> Self {
        let parsed = |texts: &&[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        self.known.insert(name, answers.iter().map(parsed).collect());
        self
    }
}

impl Lookup for Names {
    fn lookup<'a>(&'a self, host: &'a str) -> Found<'a> {
        Box::pin(async move {
            let n = self.asked.fetch_add(1, Ordering::SeqCst);
            let answers = self.known.get(host).ok_or(std::io::ErrorKind::NotFound)?;
            Ok(answers[n.min(answers.len() - 1)].clone())
        })
    }
}

fn open() -> config::Fetch {
    config::Fetch { danger_allow_private_addresses: true, ..config::Fetch::default() }
}

fn fetcher(settings: &config::Fetch, names: Names) -> Fetcher {
    crate::tls::init();
    Fetcher::new(settings, names).unwrap()
}

fn text(body: &str) -> Reply {
    Reply::pieces(200, "text/plain; charset=utf-8", [body.to_owned()], End::Whole)
}

async fn refusal(fetcher: &Fetcher, reference: &str) -> String {
    match fetcher.text(reference).await {
        Err(FetchError::Refused(why)) => why,
        other => panic!("{reference}: {other:?}"),
    }
}

async fn failure(fetcher: &Fetcher, reference: &str) -> String {
    match fetcher.text(reference).await {
        Err(FetchError::Failed(why)) => why,
        other => panic!("{reference}: {other:?}"),
    }
}

#[tokio::test]
async fn text_is_fetched_through_redirects() {
    let stub = Stub::start(|_, request| match request.path.as_str() {
        "/a" => Reply::json(302, &serde_json::Value::Null).header("location", "/b"),
        "/b" => Reply::json(307, &serde_json::Value::Null).header("location", "c"),
        _ => text("pump manual"),
    });
    let stub = stub.await;
    let fetcher = fetcher(&open(), Names::default());
    let found = fetcher.text(&format!("http://{}/a", stub.addr())).await;
    assert_eq!(found.unwrap(), "pump manual");
    let paths: Vec<String> = stub.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/a", "/b", "/c"]);
}

#[tokio::test]
async fn redirects_end() {
    let stub =
        Stub::start(|_, _| Reply::json(302, &serde_json::Value::Null).header("location", "/again"));
    let stub = stub.await;
    let fetcher = fetcher(&open(), Names::default());
    let why = failure(&fetcher, &format!("http://{}/a", stub.addr())).await;
    assert_eq!(why, "more than 5 redirects");
    assert_eq!(stub.seen().len(), 6);
}

#[tokio::test]
async fn addresses_that_are_not_public_are_not_connected_to() {
    let stub = Stub::start(|_, _| text("secret")).await;
    let port = stub.addr().port();
    let names = Names::default()
        .with("inside.example", &[&["127.0.0.1"]])
        .with("mixed.example", &[&["93.184.216.34", "127.0.0.1"]])
        .with("mapped.example", &[&["::ffff:127.0.0.1"]]);
    let fetcher = fetcher(&config::Fetch::default(), names);
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[fe80::1]",
        "169.254.169.254",
        "inside.example",
        "INSIDE.example",
        "mixed.example",
        "mapped.example",
    ] {
        let why = refusal(&fetcher, &format!("http://{host}:{port}/")).await;
        assert_eq!(
            why, "payload_ref not allowed: the host has an address that is not public",
            "{host}"
        );
    }
    assert_eq!(stub.seen().len(), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_meaning_is_looked_at_each_time() {
    let stub = Stub::start(|_, _| text("secret")).await;
    // A public address at first, which nothing here can reach, and this machine afterwards.
    let names = Names::default().with("flips.example", &[&["192.0.2.1"], &["127.0.0.1"]]);
    let names = names.with("public.example", &[&["127.0.0.1"]]);
    let settings = config::Fetch { timeout: Duration::from_millis(300), ..Default::default() };
    let fetcher = fetcher(&settings, names);
    let reference = format!("http://flips.example:{}/", stub.addr().port());
    for _ in 0..2 {
        assert!(fetcher.text(&reference).await.is_err());
    }
    assert_eq!(stub.seen().len(), 0);
}

#[tokio::test]
async fn a_redirect_is_looked_at_as_the_first_request_is() {
    let secret = Stub::start(|_, _| text("secret")).await;
    let to = format!("http://127.0.0.1:{}/", secret.addr().port());
    let stub = Stub::start(move |_, request| {
        let to = if request.path == "/file" { "file:///etc/passwd" } else { &to };
        Reply::json(302, &serde_json::Value::Null).header("location", to)
    });
    let stub = stub.await;
    let names = Names::default().with("ours.example", &[&["127.0.0.1"]]);
    let settings = config::Fetch { hosts: vec!["ours.example".to_owned()], ..open() };
    let fetcher = fetcher(&settings, names);
    let at = |path: &str| format!("http://ours.example:{}{path}", stub.addr().port());
    let why = refusal(&fetcher, &at("/host")).await;
    assert_eq!(why, "payload_ref not allowed: the host is not in ACTIVEKG_URL_ALLOWLIST");
    let why = refusal(&fetcher, &at("/file")).await;
    assert_eq!(why, "payload_ref not allowed: a redirect leaves the web");
    assert_eq!(secret.seen().len(), 0);
}

#[tokio::test]
async fn only_text_of_a_limited_length_is_taken() {
    let stub = Stub::start(|_, request| match request.path.as_str() {
        "/pdf" => Reply::pieces(200, "application/pdf", ["%PDF"], End::Whole),
        "/json" => Reply::json(200, &serde_json::json!({"a": 1})),
        "/long" => Reply::pieces(200, "text/plain", ["123456", "789012"], End::Whole),
        "/announced" => text("123456789012").header("content-length", "12"),
        "/broken" => Reply::pieces(200, "text/plain", ["1234"], End::Broken),
        "/slow" => Reply::pieces(200, "text/plain", ["1234"], End::Never),
        "/page" => Reply::pieces(
            200,
            "text/html; charset=iso-8859-1",
            [&b"<title>Caf\xe9</title><script>x</script><p>Seal"[..]],
            End::Whole,
        ),
        "/gone" => Reply::pieces(404, "text/plain", ["no"], End::Whole),
        _ => text("x"),
    });
    let stub = stub.await;
    let timeout = Duration::from_millis(500);
    let page = fetcher(&open(), Names::default());
    let found = page.text(&format!("http://{}/page", stub.addr())).await.unwrap();
    assert_eq!(found.split_whitespace().collect::<Vec<_>>(), ["Café", "Seal"]);
    let fetcher = fetcher(&config::Fetch { max_bytes: 10, timeout, ..open() }, Names::default());
    let at = |path: &str| format!("http://{}{path}", stub.addr());
    assert!(refusal(&fetcher, &at("/pdf")).await.ends_with("neither text nor JSON"));
    assert_eq!(fetcher.text(&at("/json")).await.unwrap(), "{\"a\":1}");
    assert_eq!(fetcher.text(&at("/long")).await.unwrap(), "1234567890");
    assert!(refusal(&fetcher, &at("/announced")).await.contains("ACTIVEKG_MAX_FETCH_BYTES"));
    assert_eq!(failure(&fetcher, &at("/broken")).await, "the answer broke off");
    assert!(failure(&fetcher, &at("/slow")).await.contains("ACTIVEKG_FETCH_TIMEOUT"));
    assert_eq!(failure(&fetcher, &at("/gone")).await, "the host answers 404");
}

#[tokio::test]
async fn what_names_no_source_is_refused() {
    let fetcher = fetcher(&config::Fetch::default(), Names::default());
    for bare in ["/etc/passwd", "etc/passwd", "", "http:/x", "file:/etc/passwd"] {
        assert_eq!(refusal(&fetcher, bare).await, "payload_ref not allowed", "{bare}");
    }
    for other in ["ftp://example.com/x", "gopher://x", "FILE:///etc/passwd", "s3://bucket/key"] {
        let why = refusal(&fetcher, other).await;
        assert!(why.starts_with("payload_ref not allowed: "), "{other}: {why}");
    }
    let why = refusal(&fetcher, "http://user:secret@example.com/").await;
    assert_eq!(why, "payload_ref not allowed: it holds a user or a password");
}

#[tokio::test]
async fn only_named_buckets_are_asked() {
    let settings = config::Fetch { buckets: vec!["texts".to_owned()], ..open() };
    let fetcher = fetcher(&settings, Names::default());
    for reference in ["s3://other/a.txt", "s3://texts", "s3://texts/", "s3:///a.txt"] {
        refusal(&fetcher, reference).await;
    }
}
