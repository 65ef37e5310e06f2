//! Why a source could not be read.

use std::time::Duration;

/// Why a source could not be read. The message repeats no secret, and nothing that the other side
/// said beyond a status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{class}: {message}", class = class.as_str())]
pub struct Fault {
    /// What kind of fault it is, which decides what happens next.
    pub class: FaultClass,
    /// What happened, and what to do about it.
    pub message: String,
    /// How long the other side wants to be left alone.
    pub retry_after: Option<Duration>,
}

/// A kind of fault. It follows from statuses and from how a connection ended, never from a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultClass {
    /// It is not there, or the whole source is not.
    NotFound,
    /// The source does not let it be read.
    AccessDenied,
    /// Too much was asked.
    RateLimited,
    /// The connection could not be made or broke off, or the other side failed.
    Network,
    /// It is not any more what was found. The source is as it should be.
    Changed,
    /// It took too long.
    Timeout,
    /// It is larger than what is taken.
    TooLarge,
    /// It cannot be taken at all.
    Unsupported,
    /// The connector's settings cannot be used.
    Settings,
}

impl FaultClass {
    /// The name in answers, logs and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AccessDenied => "access_denied",
            Self::RateLimited => "rate_limited",
            // For those who count, as if the connection had broken off.
            Self::Network | Self::Changed => "network",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported_type",
            Self::Settings => "settings",
        }
    }

    /// Whether the same may go well later, with nothing changed here.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        match self {
            Self::RateLimited | Self::Network | Self::Changed | Self::Timeout => true,
            Self::NotFound
            | Self::AccessDenied
            | Self::TooLarge
            | Self::Unsupported
            | Self::Settings => false,
        }
    }
}

impl Fault {
    pub(in crate::connectors) fn new(class: FaultClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), retry_after: None }
    }

    pub(super) fn settings(message: impl Into<String>) -> Self {
        Self::new(FaultClass::Settings, message)
    }

    pub(super) fn too_large(max_bytes: u64) -> Self {
        Self::new(FaultClass::TooLarge, format!("it has more than {max_bytes} bytes"))
    }

    /// An address that another source has to answer for.
    pub(super) fn elsewhere() -> Self {
        Self::new(FaultClass::Unsupported, "the address is not of this connector")
    }

    /// A prefix that is not below the connector's own.
    pub(super) fn outside() -> Self {
        Self::new(FaultClass::Unsupported, "prefix outside connector prefix")
    }

    /// An address at which nothing is, or nothing that the settings let in.
    pub(crate) fn missing(uri: &str) -> Self {
        let message =
            format!("nothing is at {uri}, or nothing that the connector's settings let in");
        Self::new(FaultClass::NotFound, message)
    }

    pub(in crate::connectors) fn cursor() -> Self {
        Self::new(FaultClass::Unsupported, "the cursor is not one of this connector")
    }

    /// Work that the end of the process cut off.
    pub(super) fn interrupted() -> Self {
        Self::new(FaultClass::Network, "the process stops")
    }
}
