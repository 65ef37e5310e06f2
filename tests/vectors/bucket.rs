//! The bucket that connectors of the recordings list: three objects, in the words of S3.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

const OBJECTS: [&str; 3] = ["docs/a.txt", "docs/b.html", "docs/c%20d.txt"];

/// The address of a bucket that is there until the tests end.
pub(super) fn address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 8192];
            let n = connection.read(&mut request).unwrap_or(0);
            let listing = listing(most(&String::from_utf8_lossy(&request[..n])));
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                listing.len()
            );
            let _ = connection.write_all(head.as_bytes());
            let _ = connection.write_all(listing.as_bytes());
        }
    });
    format!("http://{addr}")
}

/// How many objects a request asks for.
fn most(request: &str) -> usize {
    let asked = request.split_once("max-keys=").map(|(_, rest)| rest);
    let digits =
        asked.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(usize::MAX)
}

fn listing(most: usize) -> String {
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Name>vec-bucket</Name><EncodingType>url</EncodingType>".to_owned();
    for (n, key) in OBJECTS.iter().enumerate().take(most) {
        let _ = write!(
            text,
            "<Contents><Key>{key}</Key><LastModified>2026-02-03T10:00:0{n}.000Z</LastModified><ETag>&quot;{n:032x}&quot;</ETag><Size>2{n}</Size></Contents>"
        );
    }
    let rest = most < OBJECTS.len();
    let _ = write!(text, "<IsTruncated>{rest}</IsTruncated>");
    if rest {
        text.push_str("<NextContinuationToken>next</NextContinuationToken>");
    }
    text.push_str("</ListBucketResult>");
    text
}
