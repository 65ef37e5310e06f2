//! The id that ties an answer to its lines in the log.

use std::fmt;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// Where clients send and find it.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of an id that are kept as sent; a longer one is replaced.
const LENGTH_MAX: usize = 128;

/// The id of one request: the client's own, or a new UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// The client's id if it is fit for logs and headers (1 to 128 letters, digits and
    /// `-._~:/+=@`), else a new one.
    pub fn of(headers: &HeaderMap) -> Self {
        let fit = |id: &&str| {
            (1..=LENGTH_MAX).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/+=@".contains(&b))
        };
        let sent = headers.get(X_REQUEST_ID).and_then(|id| id.to_str().ok()).filter(fit);
        Self(sent.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The header that carries it.
    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("an id consists of visible ASCII characters")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(sent: &[u8]) -> RequestId {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(sent).expect("a header"));
        RequestId::of(&headers)
    }

    #[test]
    fn a_fit_id_is_kept() {
        assert_eq!(answered(b"req-1.a_b:2/3").as_str(), "req-1.a_b:2/3");
    }

    #[test]
    fn any_other_is_replaced_by_a_uuid() {
        let long = [b'a'; LENGTH_MAX + 1];
        for sent in [&b""[..], b"a b", b"\"quoted\"", b"caf\xe9", &long] {
            assert!(Uuid::try_parse(answered(sent).as_str()).is_ok(), "{sent:?}");
        }
        assert_ne!(RequestId::of(&HeaderMap::new()), RequestId::of(&HeaderMap::new()));
    }
}
