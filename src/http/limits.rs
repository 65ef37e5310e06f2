//! How much of a request body is read, and for how long.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::error::{ApiError, ErrorKind};

/// Longest time a client may take to send a body.
const READ_MAX: Duration = Duration::from_secs(60);
/// Longest time a refused body is read on, so that the client gets to see the answer.
const DISCARD_MAX: Duration = Duration::from_secs(5);
/// Bodies this many times the limit are not read on: their connection is closed.
const DISCARD_FACTOR: usize = 4;

/// 413.
pub fn too_large() -> ApiError {
    ApiError::new(ErrorKind::TooLarge, "Request too large")
}

/// 413 of a webhook.
pub fn webhook_too_large() -> ApiError {
    ApiError::new(ErrorKind::TooLarge, "Payload too large (max 1MB)")
}

/// The length a request declares.
pub fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The whole body, if it has at most `limit` bytes.
///
/// # Errors
///
/// 413 above the limit, 408 when it does not come in time, 400 when it breaks off.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    read_within(body, limit, READ_MAX).await
}

async fn read_within(body: Body, limit: usize, time: Duration) -> Result<Bytes, ApiError> {
    let expected = body.size_hint().lower();
    let collected = timeout(time, async move {
        let mut body = body;
        let mut whole = BytesMut::with_capacity(usize::try_from(expected).unwrap_or(0).min(limit));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ApiError::unreadable_body())?;
            let Some(data) = frame.data_ref() else {
                continue;
            };
            if whole.len() + data.len() > limit {
                discard(body, limit).await;
                return Err(too_large());
            }
            whole.extend_from_slice(data);
        }
        Ok(whole.freeze())
    });
    collected.await.unwrap_or_else(|_| Err(ApiError::new(ErrorKind::Timeout, "Request Timeout")))
}

/// Reads a body without keeping it, to learn whether it has at most `limit` bytes.
pub async fn fits(body: Body, limit: usize) -> bool {
    let counted = timeout(READ_MAX, async move {
        let mut body = body;
        let mut length = 0;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, Bytes::len);
            if length > limit {
                discard(body, limit).await;
                return false;
            }
        }
        true
    });
    counted.await.unwrap_or(true)
}

/// Reads on a refused body for a while: a client that is still writing would otherwise see its
/// connection reset instead of the answer.
pub async fn discard(body: Body, limit: usize) {
    let most = limit.saturating_mul(DISCARD_FACTOR);
    if body.size_hint().lower() > most as u64 {
        return;
    }
    let read = async move {
        let mut body = body;
        let mut length = 0;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, Bytes::len);
            if length > most {
                break;
            }
        }
    };
    // Whether it ended or ran out of time, the answer goes out now.
    let _ = timeout(DISCARD_MAX, read).await;
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn chunks(sizes: &[usize]) -> Body {
        let chunks: Vec<_> = sizes
            .iter()
            .map(|size| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; *size])))
            .collect();
        Body::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn a_body_up_to_the_limit_is_read() {
        assert_eq!(read(chunks(&[3, 0, 7]), 10).await.expect("fits").len(), 10);
        assert!(fits(chunks(&[3, 7]), 10).await);
    }

    #[tokio::test]
    async fn one_byte_more_is_too_large() {
        assert_eq!(
            read(chunks(&[3, 8]), 10).await.expect_err("too large").kind,
            ErrorKind::TooLarge
        );
        assert!(!fits(chunks(&[3, 8]), 10).await);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_unreadable() {
        let broken =
            stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("reset"))]);
        let error = read(Body::from_stream(broken), 10).await.expect_err("broken");
        assert_eq!(error.kind, ErrorKind::BadRequest);
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_times_out() {
        let silent = stream::pending::<Result<Bytes, std::io::Error>>();
        let error =
            read_within(Body::from_stream(silent), 10, Duration::ZERO).await.expect_err("silent");
        assert_eq!(error.kind, ErrorKind::Timeout);
    }

    #[test]
    fn only_a_number_is_a_length() {
        let mut headers = HeaderMap::new();
        assert_eq!(declared_length(&headers), None);
        headers.insert(CONTENT_LENGTH, "12".parse().expect("a header"));
        assert_eq!(declared_length(&headers), Some(12));
    }
}
