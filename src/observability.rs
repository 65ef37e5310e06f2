//! What the process says about itself: logs, metrics, build.

pub mod build_info;
pub mod dashboards;
pub mod log_file;
pub mod logs;
pub mod metrics;
