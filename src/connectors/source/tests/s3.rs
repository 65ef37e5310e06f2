//! S3, against a server that speaks its protocol and misbehaves when told to.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A bucket of these objects, which are listed in the order of their bytes.
fn bucket(objects: &[(&str, &str)]) -> impl Fn(&Asked) -> Response<Body> + use<> {
    let mut objects: Vec<(String, String)> =
        objects.iter().map(|(key, body)| ((*key).to_owned(), (*body).to_owned())).collect();
    objects.sort();
    move |asked: &Asked| {
        assert!(asked.header("authorization").starts_with("AWS4-HMAC-SHA256 Credential=AKIATEST"));
        let key = asked.path.strip_prefix("/docs/").expect("path style");
        let key = rest::decoded(key, false).expect("a key");
        if key.is_empty() {
            return listing(&objects, asked);
        }
        let Some((_, body)) = objects.iter().find(|(name, _)| *name == key) else {
            return reply(404, &[], "<Error><Code>NoSuchKey</Code></Error>");
        };
        let etag = format!("\"{}\"", body.len());
        if asked.headers.contains_key("if-match") && asked.header("if-match") != etag {
            return reply(412, &[], "");
        }
        if asked.headers.contains_key("if-none-match") && asked.header("if-none-match") == etag {
            return reply(304, &[("etag", etag.as_str())], "");
        }
        let headers = [
            ("etag", etag.as_str()),
            ("last-modified", "Wed, 21 Oct 2026 07:28:00 GMT"),
            ("content-type", "text/plain"),
        ];
        reply(200, &headers, body.clone())
    }
}

fn listing(objects: &[(String, String)], asked: &Asked) -> Response<Body> {
    assert_eq!((asked.query("list-type"), asked.query("encoding-type")), ("2", "url"));
    let limit: usize = asked.query("max-keys").parse().expect("max-keys");
    let after = asked.query("continuation-token").strip_prefix("after ").unwrap_or_default();
    let after = &rest::decoded(after, false).expect("a token of this server");
    let prefix = asked.query("prefix");
    let mut rest = objects.iter().filter(|(key, _)| key.starts_with(prefix) && key > after);
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let more = rest.next().is_some();
    let mut xml = format!(
        "<ListBucketResult><IsTruncated>{more}</IsTruncated><EncodingType>url</EncodingType>"
    );
    for (key, body) in &page {
        xml.push_str(&format!(
            "<Contents><Key>{}</Key><LastModified>2026-10-21T07:28:00.000Z</LastModified><ETag>&quot;{}&quot;</ETag><Size>{}</Size></Contents>",
            rest::in_path(key).replace("%20", "+"), body.len(), body.len(),
        ));
    }
    if let Some((last, _)) = page.last().filter(|_| more) {
        xml.push_str(&format!(
            "<NextContinuationToken>after {}</NextContinuationToken>",
            rest::in_path(last)
        ));
    }
    xml.push_str("</ListBucketResult>");
    reply(200, &[], xml)
}

fn settings(addr: SocketAddr) -> Value {
    json!({
        "bucket": "docs", "endpoint": format!("http://{addr}"),
        "access_key_id": "AKIATESTAKIATEST", "secret_access_key": "s".repeat(40),
    })
}

fn source(addr: SocketAddr) -> Source {
    open(Provider::S3, settings(addr), Parts::of_test())
}

#[tokio::test]
async fn every_object_is_listed_once_and_read_as_it_is_called() {
    let odd = [
        "a b/ü%+&=?#.txt",
        "a//b",
        "%2e",
        "x%20y",
        "\u{1}\n",
        "/first",
        "z",
        "folder/",
        "~-._/()'!*",
    ];
    let bodies: Vec<(&str, &str)> =
        odd.iter().map(|key| (*key, if *key == "folder/" { "" } else { *key })).collect();
    let source = source(serve(bucket(&bodies)).await);
    let mut expected: Vec<&str> = odd.iter().copied().filter(|key| *key != "folder/").collect();
    expected.sort_unstable();
    for limit in [1, 3, 1000] {
        let (found, unusable) = all(&source, limit).await;
        let keys: Vec<&str> =
            found.iter().map(|found| found.props["key"].as_str().unwrap()).collect();
        assert_eq!((keys, unusable), (expected.clone(), vec![]), "{limit}");
        for listed in found {
            let found = source.stat(&listed.uri).await.unwrap().expect("it is there");
            assert_eq!(listed.uri, format!("s3://docs/{}", found.props["key"].as_str().unwrap()));
            assert_eq!((&found.etag, found.modified_at), (&listed.etag, listed.modified_at));
            assert_eq!(found.content_type.as_deref(), Some("text/plain"));
            let bytes = source.fetch(&found, 99).await.unwrap();
            assert_eq!(bytes, found.props["key"].as_str().unwrap());
        }
    }
}

#[tokio::test]
async fn a_name_that_no_request_can_hold_is_told_and_never_another_object() {
    let source = source(
        serve(bucket(&[("a/../b", "1"), ("./x", "2"), ("b", "3"), ("d/", ""), ("x", "4")])).await,
    );
    let (found, unusable) = all(&source, 10).await;
    assert_eq!(
        found.iter().map(|found| found.uri.as_str()).collect::<Vec<_>>(),
        ["s3://docs/b", "s3://docs/x"]
    );
    assert_eq!(
        unusable.iter().map(|lost| lost.name.as_str()).collect::<Vec<_>>(),
        ["./x", "a/../b"]
    );
    let fault = source.stat("s3://docs/a/../b").await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Unsupported);
    assert_eq!(source.stat("s3://docs/d/").await, Ok(None), "it stands for a folder");
}

#[tokio::test]
async fn a_listing_keeps_to_the_prefix_and_the_patterns() {
    let addr =
        serve(bucket(&[("a/1.md", "1"), ("a/2.txt", "2"), ("ab/3.md", "3"), ("b", "4")])).await;
    let mut settings = settings(addr);
    settings["prefix"] = "a/".into();
    settings["include_globs"] = json!(["*.md"]);
    let source = open(Provider::S3, settings, Parts::of_test());
    assert_eq!(all(&source, 10).await.0.len(), 1);
    for out in ["a/2.txt", "ab/3.md", "b"] {
        assert_eq!(source.stat(&format!("s3://docs/{out}")).await, Ok(None), "{out}");
    }
    assert!(source.list(Some("b"), None, 1).await.is_err());
    assert_eq!(source.list(Some("a/1"), None, 1).await.unwrap().found.len(), 1);
    let foreign = source.stat("s3://other/a/1.md").await.unwrap_err();
    assert_eq!(foreign.class, FaultClass::Unsupported);
}

#[tokio::test]
async fn statuses_decide_and_texts_do_not() {
    for (status, class) in [
        (403, FaultClass::AccessDenied),
        (401, FaultClass::AccessDenied),
        (429, FaultClass::RateLimited),
        (503, FaultClass::RateLimited),
        (500, FaultClass::Network),
        (301, FaultClass::Settings),
    ] {
        let text = "404 NoSuchKey AKIATESTAKIATEST";
        let source = source(serve(move |_| reply(status, &[("retry-after", "9")], text)).await);
        let found = Found { uri: "s3://docs/404/403".to_owned(), ..Found::default() };
        for fault in [
            source.list(None, None, 1).await.unwrap_err(),
            source.stat(&found.uri).await.unwrap_err(),
            source.fetch(&found, 9).await.unwrap_err(),
        ] {
            assert_eq!(
                (fault.class, fault.retry_after),
                (class, Some(Duration::from_secs(9))),
                "{status}"
            );
            assert!(!fault.message.contains("AKIA"), "{fault}");
        }
    }
    let renamed =
        source(serve(|_| reply(404, &[], "<Error><Code>NoSuchBucket</Code></Error>")).await);
    assert_eq!(renamed.list(None, None, 1).await.unwrap_err().class, FaultClass::NotFound);
    assert_eq!(renamed.stat("s3://docs/a").await, Ok(None));
}

#[tokio::test]
async fn connections_that_fail_are_told_apart() {
    let found = Found { uri: "s3://docs/a".to_owned(), ..Found::default() };
    let class = async |source: Source| source.fetch(&found, 1000).await.unwrap_err().class;
    // Nobody listens on a port that was given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(class(source(free)).await, FaultClass::Network);
    // Half a body, and then the end.
    let half = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = half.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        while let Ok((mut stream, _)) = half.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
        }
    });
    assert_eq!(class(source(addr)).await, FaultClass::Network);
    // Bytes that do not come.
    let stuck = serve(|_| {
        let first = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from("a"))]);
        let never = futures_util::stream::pending();
        reply(200, &[], Body::from_stream(futures_util::StreamExt::chain(first, never)))
    });
    let client = rest::client_within(Duration::from_millis(50), None).unwrap();
    let parts = Parts { client, ..Parts::of_test() };
    let stuck = open(Provider::S3, settings(stuck.await), parts);
    assert_eq!(class(stuck).await, FaultClass::Timeout);
}

#[tokio::test]
async fn what_is_too_large_is_not_read() {
    let found = Found { uri: "s3://docs/a".to_owned(), ..Found::default() };
    // It says so beforehand.
    let said = serve(|_| {
        let never = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        reply(200, &[("content-length", "5368709120")], Body::from_stream(never))
    });
    let fault = source(said.await).fetch(&found, 10 << 20).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::TooLarge);
    let known = Found { size: Some(5 << 30), ..found.clone() };
    let nobody = source("127.0.0.1:1".parse().unwrap());
    assert_eq!(nobody.fetch(&known, 10 << 20).await.unwrap_err().class, FaultClass::TooLarge);
    // It does not.
    let endless = serve(|_| {
        let pieces = futures_util::stream::repeat_with(|| {
            Ok::<_, std::io::Error>(Bytes::from(vec![7; 1 << 16]))
        });
        reply(200, &[], Body::from_stream(pieces))
    });
    let fault = source(endless.await).fetch(&found, 1 << 20).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::TooLarge);
}

#[tokio::test]
async fn an_object_that_changed_meanwhile_is_not_taken_for_what_was_found() {
    let source = source(serve(bucket(&[("a", "four")])).await);
    let found = source.stat("s3://docs/a").await.unwrap().unwrap();
    assert_eq!(source.fetch(&found, 9).await.unwrap(), "four");
    let before = Found { etag: Some("before".to_owned()), ..found };
    assert!(source.fetch(&before, 9).await.unwrap_err().class.is_transient());
}

#[tokio::test]
async fn an_object_is_told_of_and_read_in_one_request_unless_it_is_known() {
    let n_asked = Arc::new(AtomicUsize::new(0));
    let counted = n_asked.clone();
    let inner = bucket(&[("a", "four"), ("d/", "")]);
    let source = source(
        serve(move |asked| {
            assert_eq!(asked.method, "GET");
            counted.fetch_add(1, Ordering::Relaxed);
            inner(asked)
        })
        .await,
    );
    let looked = source.look("s3://docs/a", Some("other")).await.unwrap();
    let Looked::Other(found, begun) = looked else { panic!("{looked:?}") };
    assert_eq!(found.etag.as_deref(), Some("4"));
    assert_eq!((found.size, found.title.as_str()), (Some(4), "a"));
    assert_eq!(source.read(&found, begun, 4).await.unwrap(), "four");
    assert_eq!(n_asked.load(Ordering::Relaxed), 1);
    let looked = source.look("s3://docs/a", None).await.unwrap();
    let Looked::Other(found, begun) = looked else { panic!("{looked:?}") };
    assert_eq!(source.read(&found, begun, 3).await.unwrap_err().class, FaultClass::TooLarge);
    assert!(matches!(source.look("s3://docs/a", Some("4")).await, Ok(Looked::Same)));
    for nothing in ["s3://docs/b", "s3://docs/d/"] {
        assert!(matches!(source.look(nothing, Some("4")).await, Ok(Looked::Nothing)), "{nothing}");
    }
    assert_eq!(source.look("s3://other/a", None).await.unwrap_err().class, FaultClass::Unsupported);
}

#[tokio::test]
async fn a_server_that_knows_no_conditions_is_not_believed_that_all_is_new() {
    let headers = [("etag", "\"x\"")];
    let source = source(serve(move |_| reply(200, &headers, "text")).await);
    assert!(matches!(source.look("s3://docs/a", Some("x")).await, Ok(Looked::Same)));
    // One that answers a question nobody asked.
    let odd = self::source(serve(|_| reply(304, &[], "")).await);
    assert_eq!(odd.look("s3://docs/a", None).await.unwrap_err().class, FaultClass::Settings);
}

#[tokio::test]
async fn a_bucket_is_followed_to_its_region_once() {
    let asked_for = Arc::new(AtomicUsize::new(0));
    let counted = asked_for.clone();
    let inner = bucket(&[("a", "1")]);
    let addr = serve(move |asked| {
        counted.fetch_add(1, Ordering::SeqCst);
        if asked.header("authorization").contains("/eu-central-1/s3/") {
            return inner(asked);
        }
        reply(400, &[("x-amz-bucket-region", "eu-central-1")], "")
    });
    let source = source(addr.await);
    for _ in 0..2 {
        assert_eq!(source.list(None, None, 9).await.unwrap().found.len(), 1);
    }
    assert_eq!(asked_for.load(Ordering::SeqCst), 3);
    let bad = serve(|_| reply(400, &[("x-amz-bucket-region", "evil.example/")], "")).await;
    let fault =
        super::open(Provider::S3, settings(bad), Parts::of_test()).list(None, None, 1).await;
    assert_eq!(fault.unwrap_err().class, FaultClass::Settings);
}

#[test]
fn settings_that_cannot_be_used_are_told() {
    let opened = |change: Value| {
        let mut settings = settings("127.0.0.1:1".parse().unwrap());
        for (name, value) in change.as_object().unwrap() {
            settings[name] = value.clone();
        }
        let Value::Object(settings) = settings else { panic!("an object") };
        let parts = SourceParts(Arc::new(Parts::of_test()));
        Source::open(Provider::S3, &Connector::unsaved(settings), &parts).err().map(|f| f.class)
    };
    assert_eq!(opened(json!({})), None);
    for bad in [
        json!({"region": "eu west"}),
        json!({"region": "x.evil.example/"}),
        json!({"endpoint": "http://169.254.169.254"}),
        json!({"endpoint": "http://[fe80::1]"}),
        json!({"bucket": ".."}),
        json!({"bucket": ""}),
        json!({"session_token": "a\nb"}),
        json!({"endpoint": null, "bucket": "a/b", "force_path_style": false}),
        json!({"include_globs": "*"}),
    ] {
        assert_eq!(opened(bad.clone()), Some(FaultClass::Settings), "{bad}");
    }
}
