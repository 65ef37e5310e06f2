//! Files that become documents: formats, the same file again, tenants, limits, hostile files.

use std::io::{Cursor, Write as _};

use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{found, text_of};
use crate::common::http::Connection;
use crate::common::{Answer, Form, Options, Request, Server};

const WORD: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
const UNTOLD: &str = "application/octet-stream";

macro_rules! data {
    ($name:literal) => {
        include_bytes!(concat!("../../data/documents/", $name))
    };
}

/// A form with one file.
fn one(name: &str, content_type: &str, content: impl AsRef<[u8]>) -> Form {
    Form::default().file(name, content_type, content)
}

/// Status and reason of each file of an upload.
fn outcomes(answer: &Answer) -> Vec<(String, Option<String>)> {
    let body = answer.expect(200);
    let files = body["files"].as_array().expect("a list of files");
    let stored = files.iter().filter(|file| file["status"] == "ok").count();
    assert_eq!(
        (&body["uploaded"], &body["skipped"]),
        (&json!(stored), &json!(files.len() - stored))
    );
    let outcome =
        |file: &Value| (text_of(&file["status"]), file["reason"].as_str().map(str::to_owned));
    files.iter().map(outcome).collect()
}

/// The outcome of uploading one file.
fn outcome(server: &Server, name: &str, content_type: &str, content: impl AsRef<[u8]>) -> String {
    let answer = server.send(&one(name, content_type, content).upload());
    let [(status, reason)] = outcomes(&answer).try_into().expect("one file");
    reason.unwrap_or(status)
}

/// The nodes of a class, of one document, in the order of its chunks.
fn nodes(server: &Server, class: &str, title: &str, tenant: &str) -> Vec<Value> {
    let tenant = tenant.replace('%', "%25");
    let target = format!("/nodes?classes={class}&include=props&limit=1000&tenant_id={tenant}");
    let body = server.get(&target).expect(200);
    let nodes = body["nodes"].as_array().expect("a list of nodes").clone();
    let title_of = |node: &Value| {
        let props = &node["props"];
        [&props["title"], &props["parent_title"]].iter().any(|name| **name == title)
    };
    let mut nodes: Vec<Value> = nodes.into_iter().filter(title_of).collect();
    nodes.sort_by_key(|node| node["props"]["chunk_index"].as_u64());
    nodes
}

/// The text of a document's only chunk.
fn text(server: &Server, title: &str) -> String {
    let chunks = nodes(server, "Chunk", title, "default");
    let [chunk] = chunks.as_slice() else { panic!("not one chunk: {chunks:?}") };
    text_of(&chunk["props"]["text"])
}

/// A package with one part.
fn package(part: &str, content: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file(part, SimpleFileOptions::default()).unwrap();
    zip.write_all(content).unwrap();
    zip.finish().unwrap().into_inner()
}

#[test]
fn files_of_every_format_are_read() {
    let server = Server::start(&[]);
    let files: [(&str, &str, &[u8], &str); 9] = [
        ("a.md", "text/markdown", b"# Pump\n\n*Seal* kit", "Pump\n\n*Seal* kit\n"),
        ("a.csv", "text/csv", b"part;count\n\"a;b\";3", "part\tcount\na;b\t3"),
        ("a.htm", UNTOLD, b"<title>T</title><nav>x</nav><p>y", "T\n\ny"),
        ("a.txt", "text/plain; charset=latin1", b"caf\xe9", "café"),
        ("word.docx", UNTOLD, data!("word.docx"), "SK-7 was ordered & paid."),
        ("excel.xlsx", UNTOLD, data!("excel.xlsx"), "P-101\t4.5\t2026-02-03\tTRUE"),
        ("slides.pptx", UNTOLD, data!("slides.pptx"), "Before the start\nOpen the drain\nCheck"),
        ("mail.eml", "message/rfc822", data!("mail.eml"), "The seal drips.\n\nPlease order SK-7."),
        ("report.pdf", "application/pdf", data!("report.pdf"), "Pump inspection report for site B"),
    ];
    let form = files
        .iter()
        .fold(Form::default(), |form, (name, kind, content, _)| form.file(name, kind, content));
    let answer = server.send(&form.upload());
    let read = outcomes(&answer);
    assert!(read.iter().all(|(status, _)| status == "ok"), "{read:?}");
    assert_eq!(answer.json()["chunks_created"], 9);
    for (name, _, _, words) in files {
        let text = text(&server, name);
        assert!(text.contains(words), "{name}: {text:?}");
    }
    let pages = text(&server, "report.pdf");
    assert!(pages.contains("café noise.") && pages.contains("Second page: order"), "{pages:?}");
    // A file that only restricts its readers is read all the same.
    assert_eq!(outcome(&server, "restricted.pdf", UNTOLD, data!("restricted.pdf")), "ok");
    assert!(text(&server, "restricted.pdf").contains("Second page"));
}

#[test]
fn a_document_is_a_parent_with_chunks() {
    let server = Server::start(&[]);
    let sentence = "The pump was inspected and the seal was found dry. ";
    let words = sentence.repeat(400);
    let form = one("long é.txt", "text/plain", &words).field("classes", "Document, Report");
    let answer = server.send(&form.upload()).expect(200);
    assert_eq!((&answer["chunks_created"], &answer["embeddings_queued"]), (&json!(3), &json!(0)));

    let chunks = nodes(&server, "Chunk", "long é.txt", "default");
    let [parent] = nodes(&server, "Report", "long é.txt", "default")
        .into_iter()
        .filter(|node| node["props"]["is_parent"] == true)
        .collect::<Vec<_>>()
        .try_into()
        .expect("one parent");
    assert_eq!(parent["classes"], json!(["Document", "Report"]));
    assert_eq!(
        (&parent["embedding_status"], &parent["has_embedding"]),
        (&json!("skipped"), &json!(false))
    );
    let props = &parent["props"];
    let name = text_of(&props["external_id"]);
    let hash = text_of(&props["content_hash"]);
    assert_eq!(name, format!("upload:default:long é.txt:{}", &hash[..16]));
    assert_eq!(
        (&props["source"], &props["content_type"]),
        (&json!("manual_upload"), &json!("text/plain"))
    );
    assert_eq!((&props["size"], &props["has_chunks"]), (&json!(words.len()), &json!(true)));

    let characters: Vec<char> = words.chars().collect();
    for (index, chunk) in chunks.iter().enumerate() {
        let (id, props) = (text_of(&chunk["id"]), &chunk["props"]);
        assert_eq!(chunk["classes"], json!(["Chunk", "Report"]));
        assert_eq!(
            (&chunk["embedding_status"], &chunk["has_embedding"]),
            (&json!("ready"), &json!(true))
        );
        assert_eq!(props["external_id"], format!("{name}#chunk{index}"));
        assert_eq!(
            (&props["parent_id"], &props["parent_title"]),
            (&json!(name), &json!("long é.txt"))
        );
        assert_eq!((&props["chunk_index"], &props["total_chunks"]), (&json!(index), &json!(3)));
        assert!(props.get("skills").is_some_and(Value::is_null));
        let lineage = server.get(&format!("/lineage/{id}")).expect(200);
        let ancestor = &lineage["ancestors"][0];
        assert_eq!(ancestor["id"], parent["id"]);
        let edge = &ancestor["edge_props"];
        assert_eq!((&edge["chunk_index"], &edge["total_chunks"]), (&json!(index), &json!(3)));
        let place = |name: &str| edge[name].as_u64().expect("a place") as usize;
        let piece: String = characters[place("char_start")..place("char_end")].iter().collect();
        assert_eq!(props["text"], piece);
    }
    let first = text_of(&chunks[0]["id"]);
    assert!(found(&server, "was the seal dry").contains(&first));
}

#[test]
fn the_same_file_again_changes_nothing_and_another_text_is_another_document() {
    let server = Server::start(&[]);
    let form = || one("a.txt", "text/plain", "The mechanical seal was replaced.");
    let once = server.send(&form().upload()).expect(200);
    let id = text_of(&nodes(&server, "Chunk", "a.txt", "default")[0]["id"]);
    let node = server.get(&format!("/nodes/{id}")).expect(200);
    assert_eq!(server.send(&form().upload()).expect(200), once);
    // Twice in one upload is once, too.
    let twice = form().file("a.txt", "text/plain", "The mechanical seal was replaced.");
    assert_eq!(server.send(&twice.upload()).expect(200)["uploaded"], 2);
    assert_eq!(server.get(&format!("/nodes/{id}")).expect(200), node, "not even embedded again");
    assert_eq!(server.get("/nodes").expect(200)["total"], 2);
    let versions = server.get(&format!("/nodes/{id}/versions")).expect(200);
    assert_eq!(versions["count"], 1, "embedded once");

    // Other classes change the nodes and not their vectors.
    server.send(&form().field("classes", "Document,Manual").upload()).expect(200);
    let changed = server.get(&format!("/nodes/{id}")).expect(200);
    assert_eq!(changed["classes"], json!(["Chunk", "Manual"]));
    assert_eq!(changed["embedding_updated_at"], node["embedding_updated_at"]);

    server.send(&one("a.txt", "text/plain", "Another text.").upload()).expect(200);
    assert_eq!(nodes(&server, "Chunk", "a.txt", "default").len(), 2);

    // Deleted, it comes back.
    server.delete(&format!("/nodes/{id}")).expect(200);
    assert!(!found(&server, "mechanical seal").contains(&id));
    assert_eq!(outcome(&server, "a.txt", "text/plain", "The mechanical seal was replaced."), "ok");
    let revived = server.get(&format!("/nodes/{id}")).expect(200);
    assert_eq!(revived["classes"], json!(["Chunk", "Resume"]));
    assert_eq!(revived["props"].get("deleted_at"), None);
    server.until(&Request::post("/search", &json!({ "query": "mechanical seal" })), |answer| {
        answer.text().contains(&id)
    });
}

#[test]
fn a_document_that_is_cut_otherwise_keeps_no_chunk_too_many() {
    let mut server = Server::start(&[("CHUNK_MAX_CHARS", "100"), ("CHUNK_OVERLAP_CHARS", "20")]);
    let words = "The valve was found open. ".repeat(40);
    let upload = |server: &Server| {
        let answer = server.send(&one("v.txt", "text/plain", &words).upload()).expect(200);
        (answer["chunks_created"].clone(), nodes(server, "Chunk", "v.txt", "default"))
    };
    let (n, many) = upload(&server);
    assert_eq!(n, many.len());
    assert!(many.len() > 10);
    // One that leads to its document by an edge of somebody else too is one all the same.
    let [document] = nodes(&server, "Document", "v.txt", "default").try_into().expect("one");
    let edge = json!({ "src": many[many.len() - 1]["id"], "dst": document["id"], "rel": "ENDS" });
    server.post("/edges", &edge).expect(200);
    for max in ["400", "8000"] {
        server.terminate();
        server.start_again(&[("CHUNK_MAX_CHARS", max)]);
        let (n, fewer) = upload(&server);
        assert_eq!(n, fewer.len());
        assert!(fewer.len() < many.len());
        assert_eq!(server.get("/nodes").expect(200)["total"], fewer.len() + 1);
        assert!(fewer.iter().all(|chunk| chunk["embedding_status"] == "ready"));
        // The first chunk is the same node, with other words and a vector of them.
        assert_eq!(fewer[0]["id"], many[0]["id"]);
        let id = text_of(&fewer[0]["id"]);
        let node = server.get(&format!("/nodes/{id}")).expect(200);
        assert!(node["version"].as_u64() > Some(1));
        for gone in &many[fewer.len()..] {
            let id = text_of(&gone["id"]);
            assert_eq!(server.get(&format!("/nodes/{id}")).status, 404);
            assert_eq!(server.get(&format!("/lineage/{id}")).expect(200)["depth"], 0);
        }
    }
}

#[test]
fn tenants_have_documents_of_their_own() {
    let server = Server::start(&[]);
    let upload = |tenant: &str, name: &str| {
        let form = one(name, "text/plain", "the same text").field("tenant_id", tenant);
        assert_eq!(server.send(&form.upload()).expect(200)["uploaded"], 1);
        let [chunk] = nodes(&server, "Chunk", name, tenant).try_into().expect("one chunk");
        text_of(&chunk["id"])
    };
    let ids = [upload("a", "b:c"), upload("a:b", "c"), upload("a%3Ab", "c"), upload("z", "b:c")];
    for (index, id) in ids.iter().enumerate() {
        assert!(!ids[..index].contains(id), "{ids:?}");
        assert_eq!(server.get(&format!("/nodes/{id}")).status, 404, "not for the tenant default");
    }
}

#[test]
fn names_that_other_nodes_have_are_left_to_them() {
    let server = Server::start(&[]);
    let name = "upload:default:a.txt:2cf24dba5fb0a30e";
    let mine = server.create(&json!({ "classes": ["Doc"], "props": { "external_id": name } }));
    let answer =
        server.send(&one("a.txt", "text/plain", "hello").file("b.txt", "text/plain", "b").upload());
    let expected =
        [("error: external_id already exists".to_owned(), None), ("ok".to_owned(), None)];
    assert_eq!(outcomes(&answer), expected);
    let kept = server.get(&format!("/nodes/{mine}")).expect(200);
    assert_eq!(kept["props"]["external_id"], name);
    assert_eq!(server.get("/nodes").expect(200)["total"], 3);
}

#[test]
fn files_without_text_are_skipped_with_a_reason() {
    let server = Server::start(&[]);
    let truncated = &data!("word.docx")[..20_000];
    let old = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 a compound file";
    let image = package("word/document.xml", b"<d><drawing/></d>");
    let damaged = "it is damaged or not of the type it says it is";
    let no_text = "files of this type hold no text that can be read";
    let files: [(&str, &str, &[u8], &str); 12] = [
        ("a.txt", "text/plain", b"", "the file is empty"),
        ("a.pdf", "application/pdf", b"", "the file is empty"),
        ("a.txt", "text/plain", b" \r\n", "no text was found in it"),
        ("a.docx", WORD, &image, "no text was found in it"),
        ("a.doc", "application/msword", old, "Office formats before 2007"),
        ("a.xls", UNTOLD, old, "Office formats before 2007"),
        ("a.pdf", UNTOLD, data!("locked.pdf"), "it is encrypted"),
        ("a.docx", WORD, b"no package", damaged),
        ("a.docx", UNTOLD, truncated, damaged),
        ("a.docx", WORD, data!("report.pdf"), damaged),
        ("a.pdf", "application/pdf", b"%PDF-1.7 garbage", damaged),
        ("a.bin", UNTOLD, b"\0\x01\x02\x03", no_text),
    ];
    for (name, kind, content, reason) in files {
        let said = outcome(&server, name, kind, content);
        assert!(said.starts_with(reason), "{name} as {kind}: {said}");
    }
    assert_eq!(server.get("/nodes").expect(200)["total"], 0);
    assert_eq!(outcome(&server, "", "text/plain", "a file without a name"), "ok");
    assert_eq!(text(&server, "unnamed"), "a file without a name");
    let long = outcome(&server, &"n".repeat(256), "text/plain", "x");
    assert_eq!(long, "error: its name is longer than 255 characters");
}

/// A PDF file whose only page has this content, said to be packed by this filter.
fn pdf(filter: &str, content: &[u8]) -> Vec<u8> {
    let mut file = b"%PDF-1.4\n".to_vec();
    let mut offsets = Vec::new();
    let mut object = |file: &mut Vec<u8>, body: &[u8]| {
        offsets.push(file.len());
        let number = offsets.len();
        file.extend(format!("{number} 0 obj\n").into_bytes());
        file.extend(body);
        file.extend(b"\nendobj\n");
    };
    object(&mut file, b"<< /Type /Catalog /Pages 2 0 R >>");
    object(&mut file, b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>");
    object(
        &mut file,
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R \
          /Resources << /Font << /F1 5 0 R >> >> >>",
    );
    let mut stream = format!("<< /Length {} {filter} >>\nstream\n", content.len()).into_bytes();
    stream.extend(content);
    stream.extend(b"\nendstream");
    object(&mut file, &stream);
    object(&mut file, b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>");
    let start = file.len();
    file.extend(format!("xref\n0 {}\n0000000000 65535 f \n", offsets.len() + 1).into_bytes());
    for offset in &offsets {
        file.extend(format!("{offset:010} 00000 n \n").into_bytes());
    }
    let size = offsets.len() + 1;
    file.extend(
        format!("trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n").into_bytes(),
    );
    file
}

/// Bytes packed as zlib does.
fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

#[test]
fn bombs_cost_their_file_and_nothing_else() {
    let server = Server::start(&[("EXTRACT_MAX_MEMORY_BYTES", "134217728")]);
    let small = pdf("", b"BT /F1 14 Tf 72 720 Td (A small page) Tj ET");
    assert_eq!(outcome(&server, "small.pdf", UNTOLD, small), "ok");
    assert_eq!(text(&server, "small.pdf"), "A small page");

    let zip = package("word/document.xml", &vec![b' '; 64 << 20]);
    let deep = package("word/document.xml", "<a>".repeat(10_000).as_bytes());
    let flood = pdf("/Filter /FlateDecode", &deflated(&vec![b' '; 160 << 20]));
    let nested = pdf("", "[".repeat(200_000).as_bytes());
    let expands = "error: it unpacks to more than EXTRACT_MAX_EXPANDED_BYTES allows";
    let crashed = "error: its parser failed or needed more memory than EXTRACT_MAX_MEMORY_BYTES";
    assert_eq!(outcome(&server, "zip.docx", WORD, zip), expands);
    assert_eq!(
        outcome(&server, "deep.docx", WORD, deep),
        "error: its elements are nested too deeply"
    );
    assert_eq!(outcome(&server, "flood.pdf", UNTOLD, flood), crashed);
    let nested = outcome(&server, "nested.pdf", UNTOLD, nested);
    assert_ne!(nested, "ok");

    assert_eq!(outcome(&server, "after.docx", WORD, data!("word.docx")), "ok");
    assert_eq!(server.get("/nodes").expect(200)["total"], 4, "two documents of one chunk");
}

#[test]
fn damaged_pdf_files_are_read_or_refused() {
    let server = Server::start(&[]);
    let whole = data!("report.pdf");
    let mut form = Form::default();
    // A linear congruential generator: the same damage in every run.
    let mut state = 1_u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for n in 0..40 {
        let mut bytes = whole.to_vec();
        for _ in 0..=n % 8 {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        if n % 4 == 0 {
            bytes.truncate(random(whole.len()));
        }
        form = form.file(&format!("{n}.pdf"), "application/pdf", bytes);
    }
    assert_eq!(outcomes(&server.send(&form.upload())).len(), 40);
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn texts_have_a_limit_that_files_of_an_upload_share() {
    let server = Server::start(&[
        ("EXTRACT_MAX_TEXT_BYTES", "2000"),
        ("EXTRACT_MAX_EXPANDED_BYTES", "10000"),
    ]);
    let too_long = "error: its text is longer than EXTRACT_MAX_TEXT_BYTES allows";
    for (kind, name) in [("text/plain", "a.txt"), ("text/html", "a.html"), ("text/csv", "a.csv")] {
        assert_eq!(outcome(&server, name, kind, "x".repeat(2001)), too_long, "{name}");
        assert_eq!(outcome(&server, name, kind, "x".repeat(2000)), "ok", "{name}");
    }
    let words = |letter: &str| letter.repeat(900);
    let form = ["a", "b", "c"]
        .iter()
        .fold(Form::default(), |form, letter| form.file(letter, "text/plain", words(letter)));
    let statuses: Vec<String> =
        outcomes(&server.send(&form.upload())).into_iter().map(|(status, _)| status).collect();
    assert_eq!(statuses, ["ok", "ok", too_long]);
    let large = package("word/document.xml", " ".repeat(10_001).as_bytes());
    let expands = "error: it unpacks to more than EXTRACT_MAX_EXPANDED_BYTES allows";
    assert_eq!(outcome(&server, "a.docx", WORD, large), expands);
}

#[test]
fn an_upload_that_does_not_fit_the_queue_leaves_nothing_behind() {
    let server = Options::new(&[
        ("EMBEDDING_ASYNC", "true"),
        ("EMBEDDING_TENANT_MAX_PENDING", "2"),
        ("RUN_EMBEDDING_WORKER", "false"),
        ("CHUNK_MAX_CHARS", "100"),
        ("CHUNK_OVERLAP_CHARS", "0"),
    ])
    .start();
    let form = |n: usize| one("a.txt", "text/plain", "x".repeat(n));
    let both = form(100).file("b.txt", "text/plain", "x".repeat(101));
    for over in [form(201), both] {
        let refused = server.send(&over.upload());
        let text = "Tenant embedding queue limit exceeded, please retry later";
        assert_eq!(refused.expect_detail(429), text);
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(server.get("/nodes").expect(200)["total"], 0);
    }
    let answer = server.send(&form(200).upload()).expect(200);
    assert_eq!((&answer["chunks_created"], &answer["embeddings_queued"]), (&json!(2), &json!(2)));
    // The same again queues nothing, so it fits.
    let again = server.send(&form(200).upload()).expect(200);
    assert_eq!((&again["chunks_created"], &again["embeddings_queued"]), (&json!(2), &json!(0)));
    assert_eq!(server.send(&form(1).upload()).status, 429);
}

#[test]
fn forms_are_checked_before_they_are_read() {
    let server = Server::start(&[("UPLOAD_MAX_FILES", "2")]);
    let file = |name: &str| one(name, "text/plain", "x");
    let three = file("a").file("b", "text/plain", "x").file("c", "text/plain", "x");
    let refused = server.send(&three.upload());
    assert_eq!(refused.expect_detail(400), "Too many files (max 2)");

    let upload = |kind: &str, body: &str| {
        server.send(&Request::new("POST", "/upload").header("content-type", kind).raw(body))
    };
    let broken = "There was an error parsing the body";
    let kind = "multipart/form-data; boundary=b";
    for body in ["", "garbage", "--b\r\ncontent-disposition: form-data; name=\"files\"\r\n\r\nx"] {
        assert_eq!(upload(kind, body).expect_detail(400), broken, "{body:?}");
    }
    let missing = upload("multipart/form-data", "x").expect_detail(400);
    assert_eq!(missing, "Missing boundary in multipart.");
    for (kind, body) in [("text/plain", "x"), ("application/x-www-form-urlencoded", "files=x")] {
        let fault = upload(kind, body).expect_fault();
        let expected =
            ("missing".to_owned(), json!(["body", "files"]), "Field required".to_owned());
        assert_eq!(fault, expected, "{kind}");
    }
    let long = "c".repeat(101);
    for (field, text) in [("classes", long.as_str()), ("tenant_id", &"t".repeat(101))] {
        let (_, place, _) = server.send(&file("a").field(field, text).upload()).expect_fault();
        assert_eq!(place, json!(["body", field]));
    }
    assert_eq!(server.get("/nodes").expect(200)["total"], 0);
    // In pieces, on a connection that goes on.
    let mut connection = Connection::open(server.addr()).unwrap();
    let answer = connection.send(&file("a").upload().chunked()).unwrap();
    assert_eq!(outcomes(&answer), [("ok".to_owned(), None)]);
    assert_eq!(connection.send(&Request::get("/health")).unwrap().status, 200);
}
