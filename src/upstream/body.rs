//! The body of an answer, within its limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::client::Inside;
use super::{Failure, UpstreamError};

/// An answer that is read piece by piece. Its call counts as under way until it is dropped.
pub struct Pieces {
    body: Body,
    /// Read before the call counted as having begun well.
    first: Option<Bytes>,
    over: bool,
    failed: bool,
    content_type: Option<String>,
    inside: Arc<Inside>,
    _place: OwnedSemaphorePermit,
}

impl Pieces {
    pub(super) fn new(
        body: Body,
        first: Option<Bytes>,
        inside: Arc<Inside>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let content_type = body.response.headers().get(reqwest::header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self {
            over: first.is_none(),
            failed: false,
            body,
            first,
            content_type,
            inside,
            _place: place,
        }
    }

    /// The media type of the answer, without parameters.
    pub fn media_type(&self) -> Option<&str> {
        let kind = self.content_type.as_deref()?;
        Some(kind.split(';').next().unwrap_or(kind).trim())
    }

    /// The next piece, none after the last.
    ///
    /// # Errors
    ///
    /// When the connection breaks or a limit is reached; nothing follows then.
    pub async fn next(&mut self) -> Option<Result<Bytes, UpstreamError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        if self.over {
            return None;
        }
        match self.body.next().await {
            Ok(Some(piece)) => Some(Ok(piece)),
            Ok(None) => {
                self.over = true;
                None
            }
            Err(failure) => Some(Err(self.failed(failure))),
        }
    }

    /// The error of an answer that failed after it had begun; the breaker hears of it. Nothing
    /// follows then.
    pub fn failed(&mut self, failure: Failure) -> UpstreamError {
        self.over = true;
        self.failed = true;
        self.inside.failed_midway(failure)
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if !self.failed {
            self.inside.done();
        }
    }
}

/// A body that is measured as it comes.
pub(super) struct Body {
    response: Response,
    /// Bytes that may still come.
    room: usize,
    limit: usize,
    silence: Duration,
    deadline: Instant,
}

impl Body {
    /// The body of `response`: at most `limit` bytes, no silence longer than `silence`, over by
    /// `deadline`.
    pub(super) fn new(
        response: Response,
        limit: usize,
        silence: Duration,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        if response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(Failure::TooLarge { limit });
        }
        Ok(Self { response, room: limit, limit, silence, deadline })
    }

    /// The next piece; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let until = self.deadline.min(Instant::now() + self.silence);
        self.next_until(until).await
    }

    /// The next piece, which has to come by `until`.
    pub(super) async fn next_until(&mut self, until: Instant) -> Result<Option<Bytes>, Failure> {
        let piece = timeout_at(until, self.response.chunk()).await;
        let piece = piece.map_err(|_| Failure::TimedOut("the answer stopped on its way"))?;
        let Some(piece) = piece.map_err(Failure::of)? else {
            return Ok(None);
        };
        let left = self.room.checked_sub(piece.len());
        self.room = left.ok_or(Failure::TooLarge { limit: self.limit })?;
        Ok(Some(piece))
    }

    /// All of it, from `first` on.
    pub(super) async fn rest(&mut self, first: Bytes) -> Result<Bytes, Failure> {
        let mut whole = Vec::from(first);
        while let Some(piece) = self.next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.into())
    }
}
