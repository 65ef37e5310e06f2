//! The process itself, from `/proc`.

use std::fs;

use prometheus::{Counter, Gauge};

use super::register::Register;

/// Ticks a second of the times in `/proc/<pid>/stat`; Linux fixes it for user space.
const TICKS: f64 = 100.0;

/// The process itself; refreshed at each scrape.
pub(super) struct ProcessMetrics {
    cpu: Counter,
    resident: Gauge,
    virtual_memory: Gauge,
    open_fds: Gauge,
}

impl ProcessMetrics {
    /// `None` where there is no `/proc` to read, as in an empty root.
    pub(super) fn new(register: &mut Register<'_>) -> Result<Option<Self>, prometheus::Error> {
        let Some(started) = start_time() else {
            return Ok(None);
        };
        let metrics = Self {
            cpu: register
                .counter("process_cpu_seconds_total", "Time spent on processors, in seconds")?,
            resident: register.gauge("process_resident_memory_bytes", "Resident memory")?,
            virtual_memory: register.gauge("process_virtual_memory_bytes", "Virtual memory")?,
            open_fds: register.gauge("process_open_fds", "Open file descriptors")?,
        };
        register
            .gauge("process_start_time_seconds", "Unix time of the start of the process")?
            .set(started);
        if let Some(limit) = max_fds() {
            register
                .gauge("process_max_fds", "Most file descriptors the process may open")?
                .set(limit);
        }
        Ok(Some(metrics))
    }

    /// A quantity that cannot be read keeps its value.
    pub(super) fn refresh(&self) {
        if let Some(ticks) = stat().and_then(|stat| Some(stat.get(11)? + stat.get(12)?)) {
            // Two scrapes at once may read in either order; a counter only grows.
            self.cpu.inc_by((ticks / TICKS - self.cpu.get()).max(0.0));
        }
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            for (key, gauge) in [("VmRSS:", &self.resident), ("VmSize:", &self.virtual_memory)] {
                if let Some(kilobytes) = line_number(&status, key) {
                    gauge.set(kilobytes * 1024.0);
                }
            }
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            self.open_fds.set(entries.count() as f64);
        }
    }
}

/// The numbers of `/proc/self/stat` from the third field on; the second holds the name, which may
/// hold anything.
fn stat() -> Option<Vec<f64>> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    // The state is a letter.
    Some(rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect())
}

fn start_time() -> Option<f64> {
    let booted = line_number(&fs::read_to_string("/proc/stat").ok()?, "btime")?;
    Some(booted + stat()?.get(19)? / TICKS)
}

fn max_fds() -> Option<f64> {
    line_number(&fs::read_to_string("/proc/self/limits").ok()?, "Max open files")
}

/// The first number of the line that begins with `key`.
fn line_number(text: &str, key: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}
