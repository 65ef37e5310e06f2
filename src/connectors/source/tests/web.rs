//! Pages of the web.

use super::*;

fn source(urls: &[String]) -> Source {
    open(Provider::Http, json!({ "urls": urls, "bearer_token": "t0ken" }), Parts::of_test())
}

#[tokio::test]
async fn pages_are_told_from_their_next_version_by_what_there_is() {
    let elsewhere = serve(|asked| {
        assert_eq!(asked.header("authorization"), "", "the token is for another host");
        reply(200, &[("etag", "\"far\"")], "far")
    });
    let elsewhere = format!("http://{}/", elsewhere.await);
    let addr = serve(move |asked| {
        assert_eq!(asked.header("authorization"), "Bearer t0ken");
        let date = ("last-modified", "Wed, 21 Oct 2026 07:28:00 GMT");
        match asked.path.as_str() {
            "/tagged" => reply(200, &[("etag", "W/\"v1\""), date], "tagged"),
            "/dated" => reply(200, &[date], "dated"),
            "/plain" if asked.method == Method::HEAD => reply(405, &[], ""),
            "/plain" => reply(200, &[("content-type", "text/html")], "plain"),
            "/moved" => reply(302, &[("location", &elsewhere)], ""),
            "/broken" => reply(500, &[], ""),
            _ => reply(404, &[], ""),
        }
    });
    let addr = addr.await;
    let urls: Vec<String> = ["tagged", "dated", "plain", "moved", "broken", "none"]
        .iter()
        .map(|path| format!("http://{addr}/{path}"))
        .collect();
    let source = source(&urls);
    let (found, unusable) = all(&source, 2).await;
    let etag = |path: &str| {
        let found = found.iter().find(|found| found.uri.ends_with(path)).expect(path);
        found.etag.clone().expect("a tag")
    };
    assert_eq!(found.len(), 4);
    assert_eq!((etag("tagged").as_str(), etag("moved").as_str()), ("v1", "far"));
    assert_eq!(etag("dated"), "1792567680000000-5");
    assert!(etag("plain").starts_with("sha256:") && etag("plain").len() == 71);
    assert!(matches!(&unusable[..], [broken] if broken.name.ends_with("/broken")));
    assert_eq!(source.stat(&urls[5]).await, Ok(None));
    assert_eq!(source.stat(&urls[4]).await.unwrap_err().class, FaultClass::Network);
    let plain = found.iter().find(|found| found.uri == urls[2]).unwrap();
    assert_eq!(source.fetch(plain, 5).await.unwrap(), "plain");
    let other = format!("http://{addr}/other");
    assert_eq!(source.stat(&other).await, Ok(None), "what is not listed any more is gone");
    let found = Found { uri: other, ..Found::default() };
    assert_eq!(source.fetch(&found, 5).await.unwrap_err().class, FaultClass::Unsupported);
}

#[tokio::test]
async fn addresses_that_are_not_public_are_not_asked() {
    let web = crate::fetch::Web::new(
        &crate::config::Fetch::default(),
        crate::names::SystemNames::default(),
    );
    let url = "http://127.0.0.1:9/secret".to_owned();
    let parts = Parts { web: web.unwrap(), ..Parts::of_test() };
    let source = open(Provider::Http, json!({ "urls": [url] }), parts);
    assert_eq!(source.stat(&url).await.unwrap_err().class, FaultClass::AccessDenied);
    let (found, unusable) = all(&source, 9).await;
    assert_eq!((found.len(), unusable.len()), (0, 1));
}
