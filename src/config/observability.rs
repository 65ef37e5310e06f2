//! Logs and metrics.

use std::path::PathBuf;

use super::options::LogOptions;
use super::{ConfigError, read};

/// Logs and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observability {
    /// The least serious line that is written.
    pub log_level: LogLevel,
    /// What lines are appended to as well.
    pub log_file: Option<PathBuf>,
    /// Whether Prometheus text is served.
    pub metrics_enabled: bool,
}

/// How serious a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For those who look for a fault in the program.
    Trace,
    /// For those who look for a fault in the set-up.
    Debug,
    /// What happens.
    Info,
    /// It went on anyway.
    Warning,
    /// A person must look.
    Error,
}

impl Observability {
    pub(super) fn new(options: &LogOptions) -> Result<Self, ConfigError> {
        let levels = [
            ("TRACE", LogLevel::Trace),
            ("DEBUG", LogLevel::Debug),
            ("INFO", LogLevel::Info),
            ("WARNING", LogLevel::Warning),
            ("ERROR", LogLevel::Error),
            ("WARN", LogLevel::Warning),
            ("CRITICAL", LogLevel::Error),
        ];
        Ok(Self {
            log_level: read::word("LOG_LEVEL", &options.log_level, &levels)?
                .unwrap_or(LogLevel::Info),
            log_file: read::text(&options.activekg_log_file).map(PathBuf::from),
            metrics_enabled: read::boolean("METRICS_ENABLED", &options.metrics_enabled, true)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};
    use super::*;

    #[test]
    fn levels_are_words() {
        assert_eq!(
            config(&[("LOG_LEVEL", "warn")]).unwrap().observability.log_level,
            LogLevel::Warning
        );
        assert!(
            fault(&[("LOG_LEVEL", "loud")])
                .starts_with("LOG_LEVEL: \"loud\" is not one of TRACE, DEBUG")
        );
    }
}
