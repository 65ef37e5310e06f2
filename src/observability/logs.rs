//! Log lines: one JSON object each on stdout, or plain text when stdout is a terminal; and one JSON
//! object each in a file, where one is named.
//!
//! A line holds `timestamp`, `level`, `logger`, `message`, `module`, `line`, then the fields of the
//! event, then those of the spans around it, `request_id` and `tenant_id` last.

use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use activekg_storage::time::{Clock, SystemClock};
use serde_json::{Map, Value};
use tokio::signal::unix::{SignalKind, signal};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber, info, warn};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt as _};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::log_file::LogFile;
use crate::config::{ConfigError, LogLevel, Observability};
use crate::timestamp;

/// Span fields that end a line, in this order.
const LAST: [&str; 2] = ["request_id", "tenant_id"];

/// Starts logging for the process. A second call changes nothing. The file that lines go to as well,
/// where one is named.
///
/// # Errors
///
/// When that file cannot be opened.
pub fn init(settings: &Observability) -> Result<Option<Arc<LogFile>>, ConfigError> {
    let clock = Arc::new(SystemClock);
    let file = match settings.log_file.clone() {
        Some(path) => Some(Arc::new(opened(path, clock.clone())?)),
        None => None,
    };
    let terminal = std::io::stdout().is_terminal();
    let plain =
        terminal.then(|| tracing_subscriber::fmt::layer().with_ansi(false).with_target(false));
    let stdout = std::io::stdout;
    let writer = match (terminal, file.clone()) {
        (true, None) => None,
        (true, Some(file)) => Some(BoxMakeWriter::new(file)),
        (false, None) => Some(BoxMakeWriter::new(stdout)),
        (false, Some(file)) => Some(BoxMakeWriter::new(stdout.and(file))),
    };
    let json = writer.map(|writer| JsonLines::new(writer, clock));
    let subscriber = tracing_subscriber::registry()
        .with(filter(settings.log_level))
        .with(Counting::default())
        .with(plain)
        .with(json);
    // A subscriber can be there already when a test started several servers in one process.
    let _ = subscriber.try_init();
    Ok(file)
}

fn opened(path: PathBuf, clock: Arc<dyn Clock>) -> Result<LogFile, ConfigError> {
    let shown = path.display().to_string();
    LogFile::open(path, clock).map_err(|error| {
        let advice =
            "name a file in a folder that is there and that the user of the server may write to";
        ConfigError::new(
            "ACTIVEKG_LOG_FILE",
            format!("cannot append to {shown}: {error}; {advice}"),
        )
    })
}

/// Opens the file anew whenever the process gets SIGHUP, for as long as it is polled.
///
/// # Errors
///
/// When the process cannot listen for signals.
pub async fn reopen_on_hangup(file: Arc<LogFile>) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    while hangup.recv().await.is_some() {
        let file = file.clone();
        match tokio::task::spawn_blocking(move || file.reopen()).await {
            Ok(Ok(())) => info!("the log file is opened anew"),
            Ok(Err(error)) => {
                warn!("the log file (ACTIVEKG_LOG_FILE) stays the old one: {error}");
            }
            // The runtime goes down.
            Err(_) => break,
        }
    }
    Ok(())
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    }
}

/// How many lines were written, by level.
#[derive(Debug, Default)]
pub struct LogCounts {
    debug: AtomicU64,
    info: AtomicU64,
    warning: AtomicU64,
    error: AtomicU64,
}

impl LogCounts {
    /// The counts of the logger in force here; of none, when logging was not started.
    #[must_use]
    pub fn in_force() -> Arc<Self> {
        tracing::dispatcher::get_default(|dispatch| {
            dispatch.downcast_ref::<Counting>().map(|counting| counting.counts.clone())
        })
        .unwrap_or_default()
    }

    /// Lines by level, in lower case.
    #[must_use]
    pub fn by_level(&self) -> [(&'static str, u64); 4] {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("debug", count(&self.debug)),
            ("error", count(&self.error)),
            ("info", count(&self.info)),
            ("warning", count(&self.warning)),
        ]
    }

    fn add(&self, level: Level) {
        let counter = match level {
            Level::ERROR => &self.error,
            Level::WARN => &self.warning,
            Level::INFO => &self.info,
            _ => &self.debug,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts lines for the metrics.
#[derive(Default)]
struct Counting {
    counts: Arc<LogCounts>,
}

impl<S: Subscriber> Layer<S> for Counting {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.counts.add(*event.metadata().level());
    }
}

/// Writes lines of JSON.
struct JsonLines<W> {
    writer: W,
    clock: Arc<dyn Clock>,
}

/// The fields of a span, kept with it.
struct SpanFields(Map<String, Value>);

impl<W> JsonLines<W> {
    fn new(writer: W, clock: Arc<dyn Clock>) -> Self {
        Self { writer, clock }
    }
}

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Map::new();
        attributes.record(&mut Fields(&mut fields));
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<SpanFields>()
        {
            values.record(&mut Fields(&mut fields.0));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut own = Map::new();
        event.record(&mut Fields(&mut own));

        let mut line = Map::new();
        line.insert("timestamp".to_owned(), timestamp::iso(self.clock.now().get()).into());
        line.insert("level".to_owned(), level_name(*metadata.level()).into());
        line.insert("logger".to_owned(), metadata.target().into());
        line.insert("message".to_owned(), own.shift_remove("message").unwrap_or_else(|| "".into()));
        line.insert("module".to_owned(), metadata.module_path().into());
        line.insert("line".to_owned(), metadata.line().into());
        for (name, value) in own {
            line.entry(name).or_insert(value);
        }
        let mut last = Map::new();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(SpanFields(fields)) = span.extensions().get::<SpanFields>() {
                for (name, value) in fields {
                    let target = if LAST.contains(&name.as_str()) { &mut last } else { &mut line };
                    // The innermost span is met first and wins.
                    target.entry(name.clone()).or_insert_with(|| value.clone());
                }
            }
        }
        for name in LAST {
            if let Some(value) = last.remove(name) {
                line.entry(name).or_insert(value);
            }
        }

        let mut bytes = Value::Object(line).to_string().into_bytes();
        bytes.push(b'\n');
        // A log that cannot be written has nowhere to say so.
        let _ = self.writer.make_writer_for(metadata).write_all(&bytes);
    }
}

/// The names the log readers of the original filter by.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        _ => "DEBUG",
    }
}

/// Collects fields as JSON values.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use activekg_storage::time::UnixMicros;
    use tracing::{debug, field, info_span};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Stopped;

    impl Clock for Stopped {
        fn now(&self) -> UnixMicros {
            UnixMicros(1_770_112_800_123_456)
        }
    }

    /// What `work` logs, a parsed line each.
    fn logged(level: LogLevel, work: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::registry()
            .with(filter(level))
            .with(Counting::default())
            .with(JsonLines::new(move || writer.clone(), Arc::new(Stopped)));
        tracing::subscriber::with_default(subscriber, work);
        let bytes = lines.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_has_its_keys_in_order() {
        let lines = logged(LogLevel::Info, || {
            let span = info_span!(
                "request",
                request_id = "r-1",
                tenant_id = field::Empty,
                route = "/search"
            );
            let _entered = span.enter();
            span.record("tenant_id", "t1");
            warn!(duration_ms = 12, slow = true, "search was \"slow\"");
        });
        let keys: Vec<&str> = lines[0].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "timestamp",
                "level",
                "logger",
                "message",
                "module",
                "line",
                "duration_ms",
                "slow",
                "route",
                "request_id",
                "tenant_id"
            ]
        );
        assert_eq!(lines[0]["timestamp"], "2026-02-03T10:00:00.123456+00:00");
        assert_eq!(lines[0]["level"], "WARNING");
        assert_eq!(lines[0]["message"], "search was \"slow\"");
        assert_eq!(lines[0]["duration_ms"], 12);
        assert_eq!(lines[0]["tenant_id"], "t1");
    }

    #[test]
    fn the_innermost_span_wins_and_fields_cannot_forge_a_key() {
        let lines = logged(LogLevel::Info, || {
            let _outer = info_span!("outer", request_id = "old").entered();
            let _inner = info_span!("inner", request_id = "new").entered();
            info!(level = "ERROR", "two\nlines");
        });
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["request_id"], "new");
        assert_eq!(lines[0]["level"], "INFO");
    }

    #[test]
    fn the_level_is_honoured_and_lines_are_counted() {
        let lines = logged(LogLevel::Warning, || {
            debug!("no");
            info!("no");
            warn!("yes");
            assert_eq!(
                LogCounts::in_force().by_level(),
                [("debug", 0), ("error", 0), ("info", 0), ("warning", 1)]
            );
        });
        assert_eq!(lines.len(), 1);
    }
}
