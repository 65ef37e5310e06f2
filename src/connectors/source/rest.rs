//! Requests to services on the web, and what their answers mean.
//!
//! What went wrong follows from statuses, headers and how a connection ended. Bodies of refusals are
//! not read for it, since they repeat names that anybody may choose.

use std::error::Error as StdError;
use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, Response, StatusCode, redirect};
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

use activekg_storage::time::UnixMicros;

use super::{Fault, FaultClass};
use crate::connectors::policy::is_metadata_address;
use crate::names::{Checked, Objection, SystemNames};
use crate::tls;

/// Longest wait for a connection, for the next bytes of an answer, and for all of it.
const CONNECT: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(30);
const WHOLE: Duration = Duration::from_secs(300);

/// Longest listing or answer in JSON.
const ANSWER_MAX: u64 = 32 << 20;

/// A client for services that connectors name. It connects to no address that clouds keep the
/// credentials of machines at, whatever the name that leads there. After `keepalive` without a byte,
/// and again each time, the system asks whether the other side is still there; without it as the
/// library does.
///
/// # Errors
///
/// When no client can be made.
pub(super) fn client(keepalive: Option<Duration>) -> Result<Client, reqwest::Error> {
    client_within(IDLE, keepalive)
}

/// A client that waits so long for the next bytes of an answer.
pub(super) fn client_within(
    idle: Duration,
    keepalive: Option<Duration>,
) -> Result<Client, reqwest::Error> {
    let names = std::sync::Arc::new(Checked::new(SystemNames::default(), no_metadata));
    tls::web(|builder| {
        let builder = limited(builder).read_timeout(idle).dns_resolver(names.clone());
        match keepalive {
            Some(every) => builder.tcp_keepalive(every).tcp_keepalive_interval(every),
            None => builder,
        }
    })
}

/// A client for the service that gives a machine its credentials, which is near and speaks plainly.
///
/// # Errors
///
/// When no client can be made.
pub(super) fn machine_client() -> Result<Client, reqwest::Error> {
    limited(tls::plain()).no_proxy().build()
}

fn limited(builder: ClientBuilder) -> ClientBuilder {
    builder
        .user_agent(concat!("activekg/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT)
        .read_timeout(IDLE)
        .timeout(WHOLE)
        .pool_max_idle_per_host(4)
}

/// Objects to names that lead to where clouds keep credentials.
fn no_metadata(addresses: &[IpAddr]) -> Result<(), Objection> {
    if addresses.iter().any(|address| is_metadata_address(*address)) {
        return Err(Metadata.into());
    }
    Ok(())
}

/// A name leads to where clouds keep credentials.
#[derive(Debug, thiserror::Error)]
#[error("a link-local or metadata address")]
struct Metadata;

/// Why no answer came.
pub(super) fn unanswered(error: &reqwest::Error) -> Fault {
    let mut inner: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = inner {
        if cause.is::<Metadata>() {
            return Fault::settings("the host leads to a link-local or metadata address");
        }
        inner = cause.source();
    }
    match () {
        () if error.is_timeout() => Fault::new(FaultClass::Timeout, "no whole answer in time"),
        () if error.is_connect() => Fault::new(
            FaultClass::Network,
            "no connection to the service; check the endpoint and the network",
        ),
        () if error.is_builder() => Fault::settings("no request can be made of these settings"),
        () => Fault::new(FaultClass::Network, "the answer broke off"),
    }
}

/// The fault that a status other than success stands for.
pub(super) fn refused(status: StatusCode, headers: &HeaderMap) -> Fault {
    let n = status.as_u16();
    let (class, advice) = match n {
        404 | 410 => (FaultClass::NotFound, "there is no such object, bucket or folder"),
        401 | 403 => {
            (FaultClass::AccessDenied, "check the credentials and what they may do with the source")
        }
        429 | 503 => (FaultClass::RateLimited, "too much was asked of it"),
        408 => (FaultClass::Timeout, "it waited too long for the request"),
        409 | 412 => (FaultClass::Changed, "the object changed while it was read"),
        500.. => (FaultClass::Network, "the service failed"),
        300..=399 => (FaultClass::Settings, "it is elsewhere; check the endpoint and the region"),
        _ => (FaultClass::Settings, "check the settings of the connector"),
    };
    Fault {
        class,
        message: format!("the service answers {n}: {advice}"),
        retry_after: retry_after(headers),
    }
}

/// How long the service wants to be left alone: in seconds, or until an instant by its own clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let given = text(headers, &RETRY_AFTER)?;
    if let Ok(seconds) = given.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (until, now) = (web_date(given)?, web_date(text(headers, &DATE)?)?);
    Some(until.since(now))
}

/// A header that is text.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// A tag of content, without what says that it is one.
pub(super) fn bare_etag(etag: &str) -> Option<String> {
    let etag = etag.trim();
    let bare = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
    (!bare.is_empty()).then(|| bare.to_owned())
}

/// An instant as headers have it.
pub(super) fn web_date(text: &str) -> Option<UnixMicros> {
    // Headers name the zone as GMT, which this format knows.
    micros(OffsetDateTime::parse(text, &Rfc2822).ok()?)
}

/// An instant as XML and JSON have it.
pub(super) fn iso_date(text: &str) -> Option<UnixMicros> {
    micros(OffsetDateTime::parse(text, &Rfc3339).ok()?)
}

fn micros(at: OffsetDateTime) -> Option<UnixMicros> {
    i64::try_from(at.unix_timestamp_nanos() / 1000).ok().map(UnixMicros)
}

/// The whole body of a listing or the like.
pub(super) async fn answer(response: Response) -> Result<Bytes, Fault> {
    body(response, ANSWER_MAX).await
}

/// The whole body, of at most `max_bytes`; no more are read.
pub(super) async fn body(response: Response, max_bytes: u64) -> Result<Bytes, Fault> {
    if response.content_length().is_some_and(|length| length > max_bytes) {
        return Err(Fault::too_large(max_bytes));
    }
    let mut bytes = BytesMut::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| unanswered(&error))?;
        if (bytes.len() + piece.len()) as u64 > max_bytes {
            return Err(Fault::too_large(max_bytes));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// `text` for a path: everything but letters, digits, `-._~` and `/` is written in hexadecimal.
pub(super) fn in_path(text: &str) -> String {
    encoded(text, b"-._~/")
}

/// `text` for one part of a path, or for a query.
pub(super) fn in_query(text: &str) -> String {
    encoded(text, b"-._~")
}

fn encoded(text: &str, plain: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a text does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// What was written with `%` and two digits; a plus is a blank if `plus`. `None` if it is no text
/// then.
pub(super) fn decoded(text: &str, plus: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            b'+' if plus => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(given: &[(HeaderName, &str)]) -> HeaderMap {
        given.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    /// When the system next asks whether the other side of a connection from this port is there;
    /// nothing while it waits for a receipt.
    fn asks_in(port: u16) -> Option<Duration> {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let mine = format!("0100007F:{port:04X}");
        let row = table.lines().find(|row| row.split_whitespace().nth(1) == Some(&mine)).unwrap();
        let timer = row.split_whitespace().nth(5).unwrap();
        let (kind, ticks) = timer.split_once(':').unwrap();
        (kind == "02").then(|| Duration::from_millis(u64::from_str_radix(ticks, 16).unwrap() * 10))
    }

    #[tokio::test]
    async fn idle_connections_are_kept_as_long_as_the_operator_says() {
        tls::init();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let client = client(Some(Duration::from_secs(3000))).unwrap();
        let asking = tokio::spawn(client.get(url).send());
        let (_stream, peer) = listener.accept().await.unwrap();
        let asks_in = loop {
            match asks_in(peer.port()) {
                Some(time) => break time,
                None => tokio::task::yield_now().await,
            }
        };
        assert!(asks_in > Duration::from_secs(2000), "{asks_in:?}");
        asking.abort();
    }

    #[test]
    fn statuses_say_what_went_wrong() {
        let class =
            |status: u16| refused(StatusCode::from_u16(status).unwrap(), &HeaderMap::new()).class;
        for (status, expected) in [
            (301, FaultClass::Settings),
            (400, FaultClass::Settings),
            (401, FaultClass::AccessDenied),
            (403, FaultClass::AccessDenied),
            (404, FaultClass::NotFound),
            (408, FaultClass::Timeout),
            (412, FaultClass::Changed),
            (429, FaultClass::RateLimited),
            (500, FaultClass::Network),
            (503, FaultClass::RateLimited),
        ] {
            assert_eq!(class(status), expected, "{status}");
        }
    }

    #[test]
    fn a_service_says_how_long_to_wait() {
        let after =
            |given: &[(HeaderName, &str)]| retry_after(&headers(given)).map(|t| t.as_secs());
        assert_eq!(after(&[(RETRY_AFTER, "7")]), Some(7));
        let date = (DATE, "Wed, 21 Oct 2026 07:28:00 GMT");
        let until = (RETRY_AFTER, "Wed, 21 Oct 2026 07:28:30 GMT");
        assert_eq!(after(&[date.clone(), until.clone()]), Some(30));
        assert_eq!(after(&[until]), None);
        assert_eq!((after(&[(RETRY_AFTER, "soon"), date]), after(&[])), (None, None));
    }

    #[test]
    fn names_are_written_and_read_back() {
        for name in ["a b/ü%+&=?#.txt", "a//b", "\u{1}\n", ""] {
            assert_eq!(decoded(&in_path(name), false).as_deref(), Some(name));
            assert_eq!(decoded(&in_query(name), true).as_deref(), Some(name));
        }
        assert_eq!(in_path("a b/ü"), "a%20b/%C3%BC");
        assert_eq!(in_query("a/b"), "a%2Fb");
        assert_eq!(decoded("a+b", true).as_deref(), Some("a b"));
        for bad in ["%", "%2", "%zz", "%ff", "%é"] {
            assert_eq!(decoded(bad, false), None, "{bad}");
        }
    }

    #[test]
    fn tags_are_compared_without_their_marks() {
        assert_eq!(bare_etag("W/\"a\"").as_deref(), Some("a"));
        assert_eq!(bare_etag("\"a-2\"").as_deref(), Some("a-2"));
        assert_eq!((bare_etag("\"\""), bare_etag(" ")), (None, None));
    }

    #[test]
    fn no_name_leads_to_the_credentials_of_the_machine() {
        let address = |text: &str| text.parse().unwrap();
        assert!(no_metadata(&[address("10.0.0.9"), address("127.0.0.1")]).is_ok());
        for bad in ["169.254.169.254", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254"] {
            assert!(no_metadata(&[address("10.0.0.9"), address(bad)]).is_err(), "{bad}");
        }
    }
}
