//! What `activekg db` found, for people.

use std::fmt::Write as _;

use serde_json::Value;

/// Bytes of a kibibyte and so on.
const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

fn bytes(value: &Value) -> String {
    let mut number = value.as_f64().unwrap_or(0.0);
    let mut unit = 0;
    while number >= 1024.0 && unit + 1 < UNITS.len() {
        number /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{number:.1} {}", UNITS[unit]) }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// Writing to a `String` cannot fail.
macro_rules! line {
    ($out:expr, $($what:tt)*) => {
        let _ = writeln!($out, $($what)*);
    };
}

pub(super) fn check(report: &Value) -> String {
    let mut out = String::new();
    let tables = list(&report["tables"]);
    let rows: u64 = tables.iter().map(|table| number(&table["rows"])).sum();
    line!(out, "{rows} rows in {} tables, {}", tables.len(), bytes(&report["file_bytes"]));
    if let Some(reason) = report["pages"].as_str() {
        line!(out, "pages: {reason}");
    }
    for table in tables {
        let name = text(&table["table"]);
        if let Some(reason) = table["broken"].as_str() {
            line!(out, "{name}: cannot be read after {} rows: {reason}", table["rows"]);
        }
        if number(&table["n_damaged"]) > 0 {
            line!(out, "{name}: {} of {} rows damaged", table["n_damaged"], table["rows"]);
        }
        for row in list(&table["damaged"]) {
            line!(out, "  {}: {}", text(&row["key"]), text(&row["reason"]));
        }
    }
    for table in list(&report["undeclared"]) {
        let name = text(&table["table"]);
        line!(out, "{name}: {} rows of a table this version does not know", table["rows"]);
    }
    if number(&report["n_disagreements"]) > 0 {
        line!(out, "{} rows contradict others", report["n_disagreements"]);
    }
    for found in list(&report["disagreements"]) {
        let (table, key) = (text(&found["table"]), text(&found["key"]));
        line!(out, "  {table} {key}: {}", text(&found["reason"]));
    }
    for found in list(&report["counters"]) {
        let (tenant, name) = (text(&found["tenant"]), text(&found["name"]));
        line!(
            out,
            "counter {name} of {tenant:?} says {}, there are {}",
            found["says"],
            found["counted"]
        );
    }
    if let Some(reason) = report["not_compared"].as_str() {
        line!(out, "rows were not compared with each other: {reason}");
    }
    isolation(&mut out, &report["isolation"]);
    if report["sound"] == true {
        line!(out, "sound");
    }
    out
}

fn isolation(out: &mut String, found: &Value) {
    if found.is_null() {
        return;
    }
    let (tables, references) = (list(&found["tenant_tables"]).len(), &found["references"]);
    line!(
        out,
        "isolation: every key of {tables} tables names its tenant; {references} references followed"
    );
    if number(&found["n_crossing"]) > 0 {
        line!(out, "isolation: {} references lead to another tenant", found["n_crossing"]);
    }
    for crossing in list(&found["crossing"]) {
        line!(out, "  {} {}", text(&crossing["table"]), text(&crossing["key"]));
    }
}

pub(super) fn stats(stats: &Value) -> String {
    let mut out = String::new();
    line!(out, "file: {}", bytes(&stats["file_bytes"]));
    let pages = &stats["pages"];
    if pages.is_object() {
        line!(
            out,
            "pages: {} in use, {} rows and keys, {} leading to them, {} unused within",
            pages["allocated_pages"],
            bytes(&pages["stored_bytes"]),
            bytes(&pages["metadata_bytes"]),
            bytes(&pages["fragmented_bytes"])
        );
    }
    line!(out, "{:<28} {:>10} {:>12} {:>12} {:>12}", "table", "rows", "keys", "values", "largest");
    for table in list(&stats["tables"]) {
        line!(
            out,
            "{:<28} {:>10} {:>12} {:>12} {:>12}",
            text(&table["table"]),
            number(&table["rows"]),
            bytes(&table["key_bytes"]),
            bytes(&table["value_bytes"]),
            bytes(&table["largest_bytes"])
        );
        if let Some(reason) = table["broken"].as_str() {
            line!(out, "  cannot be read further: {reason}");
        }
    }
    for (queue, depths) in stats["queues"].as_object().into_iter().flatten() {
        line!(
            out,
            "queue {queue}: {} ready, {} delayed, {} leased, {} dead",
            depths["ready"],
            depths["delayed"],
            depths["leased"],
            depths["dead"]
        );
    }
    let log = &stats["change_log"];
    if log.is_object() {
        line!(out, "change log: {} to {}", log["oldest"], log["newest"]);
    }
    out
}

pub(super) fn activity(activity: &Value, slow: bool) -> String {
    /// Longer than any request holds one.
    const SLOW_SECONDS: f64 = 1.0;
    let mut out = String::new();
    let (readers, writer) = (&activity["readers"], &activity["writer"]);
    let oldest = readers["oldest_seconds"].as_f64().unwrap_or(0.0);
    if !slow || oldest > SLOW_SECONDS {
        line!(out, "snapshots: {} open, the oldest for {oldest:.3} s", readers["open"]);
    }
    if slow {
        return out;
    }
    if let Some(fault) = activity["fault"].as_str() {
        line!(out, "writes: refused: {fault}");
    }
    line!(out, "changes waiting: {}", writer["waiting"]);
    let ms = |name: &str| writer[name].as_f64().unwrap_or(0.0) * 1e3;
    line!(
        out,
        "commits: {}, {:.1} changes each, {:.2} ms on average, {:.2} ms the slowest",
        writer["commits"],
        writer["changes_per_commit"].as_f64().unwrap_or(0.0),
        ms("commit_seconds_mean"),
        ms("commit_seconds_max")
    );
    out
}

pub(super) fn compact(report: &Value) -> String {
    let (before, after) = (bytes(&report["before_bytes"]), bytes(&report["after_bytes"]));
    format!("{} rows, {before} before, {after} now\n", report["rows"])
}

pub(super) fn repair(report: &Value) -> String {
    let mut out = String::new();
    let tables = list(&report["tables"]);
    let sum = |name: &str| tables.iter().map(|table| number(&table[name])).sum::<u64>();
    line!(
        out,
        "{} rows saved, {} set aside, {} lost",
        sum("kept"),
        sum("quarantined"),
        sum("lost")
    );
    for table in tables {
        let lost = number(&table["quarantined"]) + number(&table["lost"]);
        if lost == 0 && list(&table["gaps"]).is_empty() {
            continue;
        }
        let name = text(&table["table"]);
        line!(
            out,
            "{name}: {} of {} rows saved, {} set aside, {} lost",
            table["kept"],
            table["expected"],
            table["quarantined"],
            table["lost"]
        );
        for gap in list(&table["gaps"]) {
            let end = |value: &Value, none: &str| value.as_str().unwrap_or(none).to_owned();
            let (after, through) =
                (end(&gap["after"], "the start"), end(&gap["through"], "the end"));
            line!(out, "  between {after} and {through}: {}", text(&gap["reason"]));
        }
    }
    for table in list(&report["undeclared"]) {
        line!(out, "{}: not copied, this version does not know it", text(table));
    }
    if number(&report["n_mended"]) + number(&report["recounted"]) > 0 {
        let (mended, recounted) = (&report["n_mended"], &report["recounted"]);
        line!(out, "{mended} rows that follow from others and {recounted} counters put right");
    }
    line!(out, "the damaged file and rows are in {}", text(&report["quarantine"]));
    line!(out, "next: `activekg db check`, then start the server; it builds its indexes anew");
    out
}
