//! Azure Blob Storage, against a server that speaks its protocol.

use super::*;

fn source(connection_string: String) -> Source {
    let settings = json!({ "container": "docs", "connection_string": connection_string });
    open(Provider::Azure, settings, Parts::of_test())
}

/// A container of three blobs, which are listed two by two.
fn container(asked: &Asked) -> Response<Body> {
    let name = asked.path.strip_prefix("/dev/docs").expect("the container").trim_start_matches('/');
    if name.is_empty() {
        assert_eq!((asked.query("restype"), asked.query("comp")), ("container", "list"));
        let (names, marker) = match asked.query("marker") {
            "" => (&["a b", "c"][..], "next"),
            _ => (&["d"][..], ""),
        };
        let blobs: String = names
            .iter()
            .map(|name| {
                format!(
                    "<Blob><Name>{name}</Name><Properties><Etag>0x1</Etag>\
                     <Content-Length>1</Content-Length></Properties></Blob>"
                )
            })
            .collect();
        let xml = format!(
            "<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
        );
        return reply(200, &[], xml);
    }
    match name {
        "a%20b" if asked.header("if-none-match") == "\"0x1\"" => reply(304, &[], ""),
        "a%20b" => reply(200, &[("etag", "\"0x1\""), ("content-type", "text/plain")], "x"),
        _ => reply(404, &[], ""),
    }
}

#[tokio::test]
async fn blobs_are_listed_and_read_with_a_key_or_a_signature() {
    let keyed = serve(|asked| {
        assert!(asked.header("authorization").starts_with("SharedKey dev:"));
        container(asked)
    });
    let keyed =
        format!("AccountName=dev;AccountKey=c2VjcmV0;BlobEndpoint=http://{}/dev", keyed.await);
    let signed = serve(|asked| {
        assert_eq!((asked.header("authorization"), asked.query("sig")), ("", "s+g="));
        container(asked)
    });
    let signed = format!(
        "AccountName=dev;SharedAccessSignature=sv=2024&sig=s%2Bg%3D;BlobEndpoint=http://{}/dev",
        signed.await
    );
    for connection_string in [keyed, signed] {
        let source = source(connection_string);
        let (found, _) = all(&source, 2).await;
        let uris: Vec<&str> = found.iter().map(|found| found.uri.as_str()).collect();
        assert_eq!(uris, ["az://docs/a b", "az://docs/c", "az://docs/d"]);
        let found = source.stat(uris[0]).await.unwrap().expect("it is there");
        assert_eq!((found.etag.as_deref(), found.size), (Some("0x1"), Some(1)));
        assert_eq!(source.fetch(&found, 9).await.unwrap(), "x");
        assert_eq!(source.stat("az://docs/none").await, Ok(None));
        let looked = source.look(uris[0], Some("0x2")).await.unwrap();
        let Looked::Other(found, begun) = looked else { panic!("{looked:?}") };
        assert_eq!(source.read(&found, begun, 9).await.unwrap(), "x");
        assert!(matches!(source.look(uris[0], Some("0x1")).await, Ok(Looked::Same)));
        assert!(matches!(source.look("az://docs/none", None).await, Ok(Looked::Nothing)));
    }
}

#[test]
fn a_connection_string_without_credentials_is_told() {
    for bad in
        ["AccountName=dev", "AccountName=dev;AccountKey=?", "AccountName=d/v;AccountKey=c2Vj"]
    {
        let settings = json!({ "container": "docs", "connection_string": bad });
        let Value::Object(settings) = settings else { panic!("an object") };
        let parts = SourceParts(Arc::new(Parts::of_test()));
        let opened = Source::open(Provider::Azure, &Connector::unsaved(settings), &parts);
        assert_eq!(opened.err().unwrap().class, FaultClass::Settings, "{bad}");
    }
}
