//! Node refreshes and their schedule.

use std::time::Duration;

use prometheus::{GaugeVec, Histogram, HistogramVec, IntCounterVec};

use super::bounded::Bounded;
use super::register::Register;

/// Node refreshes and their schedule.
pub struct RefreshMetrics {
    last_refresh: GaugeVec,
    classes: Bounded,
    latency: HistogramVec,
    nodes: IntCounterVec,
    cycle_nodes: Histogram,
    runs: IntCounterVec,
    inter_run: HistogramVec,
}

/// How a refresh ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshResult {
    /// The node has a fresh embedding.
    Ok,
    /// It keeps its old one.
    Error,
}

/// By what a scheduled job comes due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleKind {
    /// A period.
    Interval,
    /// The clock.
    Cron,
}

impl RefreshMetrics {
    pub(super) fn new(register: &mut Register<'_>) -> Result<Self, prometheus::Error> {
        let last_refresh = register.gauges(
            "activekg_last_refresh_timestamp",
            "Unix time of the latest refresh of a node of the class",
            &["class_name", "tenant_id"],
        )?;
        let latency = register.histograms(
            "activekg_node_refresh_latency_seconds",
            "Time to refresh a node",
            &["result"],
            &[0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0],
        )?;
        let nodes = register.counters(
            "activekg_nodes_refreshed_total",
            "Nodes refreshed, by result",
            &["result"],
        )?;
        let cycle_nodes = register.histogram(
            "activekg_refresh_cycle_nodes",
            "Nodes refreshed in one cycle",
            &[0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0],
        )?;
        let runs = register.counters(
            "activekg_schedule_runs_total",
            "Runs of scheduled jobs",
            &["job_id", "kind"],
        )?;
        let inter_run = register.histograms(
            "activekg_schedule_inter_run_seconds",
            "Time between two runs of a scheduled job",
            &["job_id"],
            &[5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0],
        )?;
        for result in [RefreshResult::Ok, RefreshResult::Error] {
            latency.with_label_values(&[result.as_str()]);
            nodes.with_label_values(&[result.as_str()]);
        }
        let classes = Bounded::default();
        Ok(Self { last_refresh, classes, latency, nodes, cycle_nodes, runs, inter_run })
    }

    /// A node was refreshed, or kept its old embedding.
    pub fn node(&self, result: RefreshResult, latency: Duration) {
        self.latency.with_label_values(&[result.as_str()]).observe(latency.as_secs_f64());
        self.nodes.with_label_values(&[result.as_str()]).inc();
    }

    /// A node of `class` was refreshed at this unix time. Classes of tenants beyond the first
    /// thousand have no gauge.
    pub fn class_refreshed(&self, class: &str, tenant: &str, unix_seconds: f64) {
        if !self.classes.shows(&format!("{tenant}\0{class}")) {
            return;
        }
        self.last_refresh.with_label_values(&[class, tenant]).set(unix_seconds);
    }

    /// A cycle over the due nodes ended.
    pub fn cycle(&self, nodes: usize) {
        self.cycle_nodes.observe(nodes as f64);
    }

    /// There is such a job; it has not run yet.
    pub fn expect(&self, job: &str, kind: ScheduleKind) {
        self.runs.with_label_values(&[job, kind.as_str()]);
        self.inter_run.with_label_values(&[job]);
    }

    /// A scheduled job ran, so long after its last run.
    pub fn scheduled(&self, job: &str, kind: ScheduleKind, since_last: Option<Duration>) {
        self.runs.with_label_values(&[job, kind.as_str()]).inc();
        if let Some(since_last) = since_last {
            self.inter_run.with_label_values(&[job]).observe(since_last.as_secs_f64());
        }
    }
}

impl ScheduleKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Interval => "interval",
            Self::Cron => "cron",
        }
    }
}

impl RefreshResult {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}
