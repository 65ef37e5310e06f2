//! The text format.

use std::fmt::Write as _;

use activekg_storage::time::UnixMicros;
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{Encoder as _, TextEncoder};

use super::register::Families;

/// Families by name, those without series as bare headers, and after each counter and histogram
/// the instant its series began at zero, as `<name>_created`.
pub(super) fn text(
    families: &Families,
    gathered: Vec<MetricFamily>,
    started: UnixMicros,
) -> String {
    let started = format!("{:.3}", started.get() as f64 / 1e6);
    let mut pieces: Vec<(String, String)> = Vec::new();
    for family in families {
        if !gathered.iter().any(|found| found.name() == family.name) {
            let (name, help, kind) = (family.name, family.help, family.kind);
            pieces.push((name.to_owned(), format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")));
        }
    }
    for family in gathered {
        let name = family.name().to_owned();
        let mut text = Vec::new();
        // Families without series are the only ones the encoder refuses, and the registry gives none.
        if TextEncoder::new().encode(std::slice::from_ref(&family), &mut text).is_err() {
            continue;
        }
        let mut text = String::from_utf8_lossy(&text).into_owned();
        if matches!(family.get_field_type(), MetricType::COUNTER | MetricType::HISTOGRAM)
            && !name.starts_with("process_")
        {
            created(&mut text, &family, &started);
        }
        pieces.push((name, text));
    }
    pieces.sort_by(|a, b| a.0.cmp(&b.0));
    pieces.into_iter().map(|(_, text)| text).collect()
}

fn created(text: &mut String, family: &MetricFamily, started: &str) {
    let base = family.name().strip_suffix("_total").unwrap_or(family.name());
    let _ = writeln!(text, "# HELP {base}_created {}\n# TYPE {base}_created gauge", family.help());
    for metric in family.get_metric() {
        let labels: Vec<String> = metric
            .get_label()
            .iter()
            .map(|label| format!("{}=\"{}\"", label.name(), escaped(label.value())))
            .collect();
        let _ = if labels.is_empty() {
            writeln!(text, "{base}_created {started}")
        } else {
            writeln!(text, "{base}_created{{{}}} {started}", labels.join(","))
        };
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
